"""What to do where a device has too little memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from uov_jax.checkpoints.run import is_free
from uov_jax.config import flat_fields
from uov_jax.errors import UserError
from uov_jax.training.geometry import Geometry, changed_by_micro_batches, either

EXHAUSTED = "RESOURCE_EXHAUSTED"  # what JAX says of a device without free memory


class DeviceMemoryError(UserError):
    """A device has too little memory for its work; names what needs less."""


@contextlib.contextmanager
def explained(
    config: ConfigDict,
    geometry: Geometry,
    device: jax.Device,
    step: int,
    what_is_left: Callable[[], str],
) -> Iterator[None]:
    """Around work of a device: where its memory is too small, say which fields help.

    Args:
        config: the recipe.
        geometry: of its steps.
        device: that works.
        step: of the run.
        what_is_left: gives a sentence on what the run can go on from.

    """
    with needed(
        f"{device} has too little memory at step {step}",
        lambda: ways_out(config, geometry) + what_is_left(),
    ):
        yield


@contextlib.contextmanager
def needed(said: str, way_out: Callable[[], str]) -> Iterator[None]:
    """Around work of a device: where its memory is too small, DeviceMemoryError.

    Args:
        said: what is amiss and with what; JAX's first line follows.
        way_out: gives a sentence on what needs less.

    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        text = str(error).strip() or type(error).__name__
        if isinstance(error, jax.errors.JaxRuntimeError) and EXHAUSTED not in text:
            raise
        raise DeviceMemoryError(f"{said}: {text.splitlines()[0]}. {way_out()}") from error


def ways_out(config: ConfigDict, geometry: Geometry) -> str:
    """Sentences on what needs less memory: by going on with this run, and by another one.

    Of the recipe's fields only those whose other values it accepts are named.
    """
    fields = dict(flat_fields(config))
    savers = _savers(config, fields, geometry)
    here = [way for name, way in savers.items() if is_free(name)]
    anew = [way for name, way in savers.items() if not is_free(name)]
    if more := geometry.more_devices():
        together = any(count not in geometry.device_counts(gathers=False) for count in more)
        how = ", with --config.gather_shards=True" if together and not geometry.gathers else ""
        here.append(f"more devices ({either(more)}{how})")
    said = ""
    if here:
        said += f"With the same command, going on with this run, need less: {', '.join(here)}. "
    if anew:
        said += f"As another run, with a new --workdir, need less: {', '.join(anew)}. "
    return said


def _savers(config: ConfigDict, fields: dict[str, Any], geometry: Geometry) -> dict[str, str]:
    """What to do by field."""
    ways: dict[str, str] = {}
    micro_batches = geometry.more_micro_batches()
    if "accumulate_steps" in fields and micro_batches:
        changed = changed_by_micro_batches(config)
        but = f" but for {changed}" if changed else ""
        ways["accumulate_steps"] = f"{either(micro_batches)} micro-batches, the same step{but}"
    if fields.get("data.voxels") is not None:
        ways["data.voxels"] = "a smaller largest size, if all batches fit"
    if fields.get("model.dtype") == "float32":
        ways["model.dtype"] = "bfloat16"
    if fields.get("data.points", 1) > 1:
        ways["data.points"] = "fewer"
    if "data.most_voxels" in fields:
        ways["data.most_voxels"] = "fewer" if fields["data.most_voxels"] else "more than 0"
    if "sweeps_per_shard" in fields and not micro_batches:
        found = geometry.smaller_shards()
        if found is not None:
            size, number = found
            ways["sweeps_per_shard"] = f"{size}, with config.accumulate_steps = {number}"
    if smaller := geometry.smaller_batches():
        half = [size for size in smaller if 2 * size <= geometry.batch_size]
        ways["batch_size"] = f"smaller, such as {max(half, default=smaller[-1])}"
    return {name: f"config.{name} = {fields[name]} ({way})" for name, way in ways.items()}
