"""How sweeps lie on devices: whole shards, shared ones, micro-batches, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from ml_collections import ConfigDict

from uov_jax.errors import InputError
from uov_jax.training.geometry import Geometry


@pytest.mark.parametrize(
    ("geometry", "sweeps", "shards", "part", "sharing"),
    [
        (Geometry(16, 4), 16, 4, 4, 1),
        (Geometry(16, 4, devices=2), 8, 2, 4, 1),
        (Geometry(16, 4, devices=4), 4, 1, 4, 1),
        (Geometry(16, 4, devices=8, gathers=True), 2, 1, 2, 2),
        (Geometry(16, 4, devices=16, gathers=True), 1, 1, 1, 4),
        (Geometry(16, 4, micro_batches=2), 8, 2, 4, 1),
        (Geometry(16, 4, micro_batches=2, devices=2), 4, 1, 4, 1),
        (Geometry(16, 4, micro_batches=4, devices=2, gathers=True), 2, 1, 2, 2),
        (Geometry(10, 10, devices=5, gathers=True), 2, 1, 2, 5),
    ],
)
def test_what_a_device_holds(
    geometry: Geometry, sweeps: int, shards: int, part: int, sharing: int
) -> None:
    assert (geometry.sweeps, geometry.shards) == (sweeps, shards)
    assert (geometry.sweeps_of_a_shard, geometry.devices_of_a_shard) == (part, sharing)


@pytest.mark.parametrize("batch", range(1, 17))
def test_every_count_that_is_named_works_and_no_other(batch: int) -> None:
    """And all sweeps of a step are somewhere, a shard's on as many devices as it is said."""
    for size in (n for n in range(1, batch + 1) if batch % n == 0):
        for micro in (n for n in range(1, batch // size + 1) if (batch // size) % n == 0):
            for gathers in (False, True):
                named = Geometry(batch, size, micro, 1, gathers).device_counts(gathers)
                assert named == sorted(set(named))
                for devices in range(1, 20):
                    if devices not in named:
                        with pytest.raises(InputError, match=f"{devices} devices cannot share"):
                            Geometry(batch, size, micro, devices, gathers)
                        continue
                    found = Geometry(batch, size, micro, devices, gathers)
                    assert found.sweeps * devices * micro == batch
                    held = found.sweeps_of_a_shard * found.devices_of_a_shard
                    assert held == size
                    assert devices % found.devices_of_a_shard == 0
                    assert found.devices_of_a_shard == 1 or found.shards == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"batch_size": 16, "sweeps_per_shard": 4, "devices": 8, "gathers": False},
            "8 devices cannot share out 4 shards of a step (config.batch_size = 16 by "
            "config.sweeps_per_shard = 4): 1, 2 or 4 can (--devices); 8 or 16 with "
            "--config.gather_shards=True; --config.sweeps_per_shard=2 makes smaller ones, another "
            "recipe",
        ),
        (
            {"batch_size": 4, "sweeps_per_shard": 1, "devices": 8, "gathers": False},
            "8 devices cannot share out 4 shards of a step (config.batch_size = 4, one to a "
            "shard): 1, 2 or 4 can (--devices); or a config.batch_size that 8 divides",
        ),
        (
            {"batch_size": 10, "sweeps_per_shard": 10, "devices": 4, "gathers": True},
            "4 devices cannot share out 1 shard of a step (config.batch_size = 10 by "
            "config.sweeps_per_shard = 10): 1, 2, 5 or 10 can (--devices); or a "
            "config.batch_size that 4 divides",
        ),
        (
            {"batch_size": 4, "sweeps_per_shard": 4, "devices": 2},
            "2 devices cannot share out 1 shard of a step (config.batch_size = 4 by "
            "config.sweeps_per_shard = 4): 1 can (--devices); --config.sweeps_per_shard=2 makes "
            "smaller ones, another recipe",
        ),
        (
            {"batch_size": 16, "sweeps_per_shard": 4, "micro_batches": 2, "devices": 4},
            "4 devices cannot share out 2 shards of a micro-batch (config.batch_size = 16 by "
            "config.sweeps_per_shard = 4, config.accumulate_steps = 2): 1 or 2 can (--devices); "
            "--config.sweeps_per_shard=2 makes smaller ones, another recipe",
        ),
        (
            {"batch_size": 16, "sweeps_per_shard": 3},
            "config.sweeps_per_shard = 3 does not divide config.batch_size = 16: expected 1, 2, "
            "4, 8 or 16, or another batch",
        ),
        (
            {"batch_size": 16, "sweeps_per_shard": 16, "micro_batches": 2},
            "config.accumulate_steps = 2 does not divide the 1 shard of a step "
            "(config.batch_size = 16 by config.sweeps_per_shard = 16, config.accumulate_steps = "
            "2): expected 1, or a smaller config.sweeps_per_shard",
        ),
        ({"batch_size": 0, "sweeps_per_shard": 1}, "config.batch_size = 0: expected at least 1"),
        (
            {"batch_size": 4, "sweeps_per_shard": -2},
            "config.sweeps_per_shard = -2: expected at least 1",
        ),
        (
            {"batch_size": 4, "sweeps_per_shard": 1, "micro_batches": 0},
            "config.accumulate_steps = 0: expected at least 1",
        ),
    ],
)
def test_a_refusal_names_fields_and_what_works(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        Geometry(**fields)
    assert str(error.value) == message


def test_that_of_a_recipe() -> None:
    assert Geometry.of(ConfigDict({"batch_size": 6}), 3) == Geometry(6, 1, 1, 3)
    fields = {"batch_size": 6, "sweeps_per_shard": None, "gather_shards": True}
    assert Geometry.of(ConfigDict(fields), 3) == Geometry(6, 6, 1, 3, gathers=True)
    fields |= {"sweeps_per_shard": 2, "gather_shards": False, "accumulate_steps": 3}
    found = Geometry.of(ConfigDict(fields), 1)
    assert found == Geometry(6, 2, 3, 1, gathers=False)
    assert found.described() == ", 2 to a shard, in 3 micro-batches"
    assert Geometry(6, 1, devices=3).described() == ""
