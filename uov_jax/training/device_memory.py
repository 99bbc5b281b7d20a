"""What to do where a device has too little memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import jax
from ml_collections import ConfigDict

from uov_jax.config import flat_fields
from uov_jax.errors import UserError

EXHAUSTED = "RESOURCE_EXHAUSTED"  # what JAX says of a device without free memory
# Fields that decide about memory, and the way to less.
SAVERS = (
    ("accumulate_steps", "more micro-batches, the same step but for batch norms"),
    ("model.dtype", "bfloat16"),
    ("data.voxels", "a smaller largest size, if all batches fit"),
    ("data.points", "fewer"),
    ("data.most_voxels", "fewer"),
    ("batch_size", "smaller, another recipe"),
)


class DeviceMemoryError(UserError):
    """A device has too little memory for a step; names the fields that need less."""


@contextlib.contextmanager
def explained(
    config: ConfigDict, device: jax.Device, step: int, what_is_left: Callable[[], str]
) -> Iterator[None]:
    """Around work of a device: where its memory is too small, say which fields help.

    Args:
        config: the recipe.
        device: that works.
        step: of the run.
        what_is_left: gives a sentence on what the run can go on from.

    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        text = str(error).strip() or type(error).__name__
        if isinstance(error, jax.errors.JaxRuntimeError) and EXHAUSTED not in text:
            raise
        fields = dict(flat_fields(config))
        ways = [f"config.{name} = {fields[name]} ({how})" for name, how in SAVERS if name in fields]
        raise DeviceMemoryError(
            f"{device} has too little memory at step {step}: {text.splitlines()[0]}. Less is "
            f"needed with other values of {', '.join(ways)}. {what_is_left()}"
        ) from error
