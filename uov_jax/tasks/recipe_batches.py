"""From a recipe to the shapes and the batches of its training, and what its model may say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from uov_jax.daemon_threads import TIMEOUT
from uov_jax.errors import InputError
from uov_jax.input.batching import ROOM_FRACTIONS, SWEEP_FRACTIONS, Capacities
from uov_jax.input.loader import Collate, SampleSource, TrainBatches, train_batches
from uov_jax.input.sizes import StepShape, counts_of, fitted_capacities
from uov_jax.losses import num_devices
from uov_jax.models import VARIANTS
from uov_jax.sparse import PRECISIONS, defers_plans
from uov_jax.tasks.recipe_model import recipe_precision
from uov_jax.training.geometry import Geometry

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


def recipe_capacities(
    config: ConfigDict, sweeps: int, sweeps_of_a_shard: int | None = None
) -> Capacities:
    """Static shapes of so many sweeps or rooms, by `voxels`, `pairs` and `superpoints`.

    Those of nuScenes' sweeps where `voxels` is None.

    `sweeps_of_a_shard` of them are of one shard; None: all.
    """
    data = config.data
    sizes: dict[str, Any] = {
        name: tuple(data[name])
        for name in ("voxels", "pairs", "superpoints")
        if data.get(name) is not None
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
    found = Capacities.for_sweeps(
        sweeps,
        first_kernel=first_kernel,
        fractions=fractions,
        sweeps_of_a_shard=sweeps_of_a_shard,
        **sizes,
    )
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
    collate: Callable[[Geometry], Collate],
    local_devices: int,
    fixed_shape: bool = False,
) -> TrainBatches:
    """Endless training batches for this process's devices, of `config.batch_size` sweeps in all.

    Args:
        config: the recipe.
        source: of the samples.
        collate: gives what makes a batch of samples per device, of how these lie on devices.
        local_devices: of this process.
        fixed_shape: all batches have one shape, so that there are no capacities.

    Raises:
        InputError: the source does not fill a single batch, or the batch not the devices.

    """
    processes = jax.process_count()
    geometry = Geometry.of(config, local_devices * processes)
    return train_batches(
        source,
        batch_size_per_device=geometry.sweeps,
        num_devices=local_devices,
        micro_batches=geometry.micro_batches,
        capacities=None if fixed_shape else _training_capacities(config, source, geometry),
        seed=config.seed,
        workers=config.data.workers,
        processes=config.data.worker_processes,
        skip_damaged=config.data.get("skip_damaged", 0.0),  # older checkpoints have no such field
        timeout=worker_timeout(config),
        host=jax.process_index(),
        num_hosts=processes,
        collate=collate(geometry),
    )


def worker_timeout(config: ConfigDict) -> float:
    """Seconds after which what builds one batch, or one sample to be judged, counts as hanging."""
    return float(config.data.get("worker_timeout", TIMEOUT))  # not in older checkpoints


def _training_capacities(config: ConfigDict, source: Any, geometry: Geometry) -> Capacities:
    """Static shapes of a device's sweeps: as the recipe says, or as the samples want them."""
    found = recipe_capacities(config, geometry.sweeps, geometry.sweeps_of_a_shard)
    if config.data.get("voxels") is not None:
        return found
    shape = StepShape(geometry.devices, geometry.sweeps, geometry.sweeps_of_a_shard)
    return fitted_capacities(counts_of(source), shape, found)


def geometry_of_axis(config: ConfigDict, axis_name: str | None) -> Geometry:
    """How a recipe's sweeps lie on the devices of an axis, inside a per-device function."""
    return Geometry.of(config, num_devices(axis_name))
