"""From a recipe to the shapes and the batches of its training, and what its model may say."""

from __future__ import annotations

from typing import Any

import jax
from ml_collections import ConfigDict

from uov_jax.errors import InputError
from uov_jax.input.batching import ROOM_FRACTIONS, SWEEP_FRACTIONS, Capacities
from uov_jax.input.loader import Collate, SampleSource, TrainBatches, train_batches
from uov_jax.models import VARIANTS
from uov_jax.sparse import PRECISIONS, defers_plans
from uov_jax.tasks.recipe_model import recipe_precision

# Whose networks see rooms, not sweeps.
ROOM_TASKS = ("esg",)
# Where neighbour maps are built.
PLANS = ("auto", "host", "device")
DTYPES = ("float32", "bfloat16")


def check_model(model: ConfigDict) -> None:
    """InputError unless there is a network of that variant, and of that type."""
    if model.variant not in VARIANTS:
        raise InputError(
            f"config.model.variant: expected one of {sorted(VARIANTS)}, found {model.variant!r}"
        )
    if model.dtype not in DTYPES:
        raise InputError(
            f"config.model.dtype: expected {' or '.join(map(repr, DTYPES))}, found {model.dtype!r}"
        )
    precision = recipe_precision(model)
    if precision not in PRECISIONS:
        known = " or ".join(map(repr, PRECISIONS))
        raise InputError(f"config.model.precision: expected {known}, found {precision!r}")


def recipe_capacities(config: ConfigDict, sweeps: int) -> Capacities:
    """Static shapes of so many sweeps or rooms, by `voxels`, `pairs` and `superpoints`."""
    data = config.data
    sizes: dict[str, Any] = {
        name: tuple(data[name]) for name in ("voxels", "pairs", "superpoints") if name in data
    }
    for name, size in sizes.items():
        numbers = len(size) == 2 and all(isinstance(number, int) for number in size)
        if not numbers or not 0 < size[0] <= size[1]:
            raise InputError(
                f"config.data.{name}: expected two whole numbers, 0 < smallest <= largest, found "
                f"{size}"
            )
    first_kernel = VARIANTS[config.model.variant].first_kernel
    fractions = ROOM_FRACTIONS if config.task in ROOM_TASKS else SWEEP_FRACTIONS
    found = Capacities.for_sweeps(sweeps, first_kernel=first_kernel, fractions=fractions, **sizes)
    plans = data.get("plans", "auto")  # older checkpoints have no such field
    if plans not in PLANS:
        raise InputError(
            f"config.data.plans: expected {' or '.join(map(repr, PLANS))}, found {plans!r}"
        )
    deferred = defers_plans() if plans == "auto" else plans == "device"
    return found.deferred() if deferred else found


def recipe_batches(
    config: ConfigDict,
    source: SampleSource,
    collate: Collate,
    num_devices: int,
    fixed_shape: bool = False,
) -> TrainBatches:
    """Endless training batches for this process's devices, of `config.batch_size` sweeps in all.

    Args:
        config: the recipe.
        source: of the samples.
        collate: makes a batch of samples per device.
        num_devices: of this process.
        fixed_shape: all batches have one shape, so that there are no capacities.

    Raises:
        InputError: the source does not fill a single batch.

    """
    processes = jax.process_count()
    per_device = config.batch_size // (num_devices * processes)
    return train_batches(
        source,
        batch_size_per_device=per_device,
        num_devices=num_devices,
        capacities=None if fixed_shape else recipe_capacities(config, per_device),
        seed=config.seed,
        workers=config.data.workers,
        processes=config.data.worker_processes,
        host=jax.process_index(),
        num_hosts=processes,
        collate=collate,
    )
