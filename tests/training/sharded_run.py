"""Some steps of a recipe on the devices of this process, or of several; prints what came of them.

The network is Res16UNet with fewer channels and blocks; data, augmentation, loader, plans, norms,
loss and optimiser are the recipe's own.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from uov_jax.checkpoints import state
from uov_jax.command_line.recipe import change_fields
from uov_jax.config import load_config
from uov_jax.models import VARIANTS
from uov_jax.tasks.build import build_task
from uov_jax.training import parallel, step
from uov_jax.training.geometry import Geometry
from uov_jax.training.optimizer import FROZEN, build_optimizer

SMALL = "res16unet-small"
TOTAL_STEPS = 30  # of the schedule


def small_variant() -> str:
    """The name of a Res16UNet of one block a stage and at most 32 channels."""
    full = VARIANTS["res16unet34c"]
    shape = {"blocks": (1,) * 8, "planes": (16, 16, 32, 32, 32, 32, 16, 16)}
    VARIANTS[SMALL] = dataclasses.replace(full, **shape)
    return SMALL


def digests(batch: Any) -> Iterator[str]:
    """Of every sweep of this process's devices, in order: voxels, features, and pairs or labels."""
    for device, cloud in enumerate(batch["plan"].coords[0]):
        for sweep in range(cloud[:, 0].max() + 1):
            rows = np.flatnonzero(cloud[:, 0] == sweep)
            seen = [cloud[rows, 1:], batch["features"][device][rows]]
            if "labels" in batch:
                seen.append(batch["labels"][device][rows])
            else:
                seen += _pairs({k: v[device] for k, v in batch.items() if k != "plan"}, rows)
            content = b"".join(np.ascontiguousarray(array).tobytes() for array in seen)
            yield hashlib.sha256(content).hexdigest()


def _pairs(batch: dict[str, np.ndarray], rows: np.ndarray) -> list[np.ndarray]:
    """Pairs and superpoints of the sweep with these rows, numbered from its own first ones."""
    own = np.isin(batch["pair_voxel"], rows)
    superpoint = batch["pair_superpoint"][own]
    slots = batch["superpoint_word"].shape[1]
    # Every superpoint has a pair.
    shard, place = np.divmod(np.unique(superpoint), slots)
    return [
        batch["pair_voxel"][own] - rows[0],
        superpoint - superpoint.min(),
        batch["superpoint_word"][shard, place],
        batch["superpoint_embedding"][shard, place],
    ]


def begin(config: ConfigDict, devices: parallel.Parallel) -> tuple[Any, Any, Any]:
    """The step of a recipe on these devices, the state before the first one, and the batches."""
    task: Any = build_task(config)
    micro_batches = Geometry.of(config, devices.num_devices).micro_batches
    batches = task.train_batches(len(devices.devices))
    skeleton, parameters, statistics = state.split(step.initial_model(task, config.seed))
    groups = {name: task.parameter_group(name) for name in parameters}
    trained = {name: group for name, group in groups.items() if group != FROZEN}
    optimizer, rate = build_optimizer(
        config.optimizer.to_dict(),
        config.schedule.to_dict(),
        trained,
        TOTAL_STEPS,
        batches.steps_per_epoch,
        config.batch_size,
    )
    train = step.spread_step(task, skeleton, optimizer, rate, devices, parameters, micro_batches)
    first = state.create(parameters, statistics, optimizer, trained)
    return train, devices.replicate(jax.device_get(first)), batches.starting_at(0)


def run(config: ConfigDict, steps: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Losses and digests of all steps, and parameters and statistics after the first one."""
    devices = parallel.Parallel()
    train, current, stream = begin(config, devices)
    losses, seen, first = [], [], {}
    for number in range(steps):
        batch = next(stream)
        seen.append(list(digests(batch)))
        current, metrics = train(current, devices.shard(batch))
        losses.append(float(devices.first(metrics)["loss"]))
        if number == 0:
            host = devices.first(current)
            first = {**host.parameters, **host.statistics}
    shards = Geometry.of(config, devices.num_devices).shards
    return {"losses": losses, "digests": seen, "shards": shards}, first


def main() -> None:
    """Run, print one JSON line, and write the arrays after the first step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("--config")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--address")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    options, fields = parser.parse_known_args()
    if options.address:
        parallel.start_hosts(options.address, options.processes, options.process)
    config = change_fields(load_config(options.config), fields)
    config.model.variant = small_variant()
    found, first = run(config, options.steps)
    np.savez(options.output, **first)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
