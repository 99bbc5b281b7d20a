"""The ways out of too little memory, as the recipes have them."""

from __future__ import annotations

import re

import pytest

from uov_jax.checkpoints.run import is_free
from uov_jax.config import load_config
from uov_jax.training.device_memory import ways_out
from uov_jax.training.geometry import Geometry

RECIPES = (
    "tmp_san",
    "tmp_san:slidr",
    "annotation_free_san",
    "finetune_nuscenes",
    "ess_scannet",
    "esg_scannet",
)


def said(recipe: str, devices: int = 1, **fields: object) -> tuple[str, str]:
    """What is said of going on, and of another run."""
    name, _, variant = recipe.partition(":")
    config = load_config(f"configs/{name}.py" + f":{variant}" * bool(variant))
    config.update(fields)
    here, _, anew = ways_out(config, Geometry.of(config, devices)).partition("As another run")
    return here, anew


@pytest.mark.parametrize("recipe", RECIPES)
def test_fields_are_named_by_whether_a_run_may_go_on_with_others(recipe: str) -> None:
    here, anew = said(recipe)
    assert all(is_free(name) for name in re.findall(r"config[.]([a-z._]+) = \S+ [(]", here))
    found = re.findall(r"config[.]([a-z._]+) = \S+ [(]", anew)
    assert "batch_size" in found
    assert not any(map(is_free, found))


def test_a_step_of_one_shard_has_no_micro_batches_but_may_lie_on_more_devices() -> None:
    here, anew = said("finetune_nuscenes")
    assert here == (
        "With the same command, going on with this run, need less: more devices (2, 4, 8 or 16). "
    )
    assert "config.sweeps_per_shard = None (8, with config.accumulate_steps = 2)" in anew
    here, _ = said("tmp_san", sweeps_per_shard=4)
    assert "more devices (2 or 4, with --config.gather_shards=True)" in here
    assert "accumulate_steps" not in here


def test_only_micro_batches_that_the_devices_can_share_are_offered() -> None:
    here, _ = said("finetune_nuscenes", devices=2, sweeps_per_shard=4, gather_shards=False)
    assert (
        "config.accumulate_steps = 1 (2 micro-batches, the same step but for batch norms)" in here
    )


@pytest.mark.parametrize(
    ("recipe", "what"),
    [
        ("ess_scannet", "the same step but for the mean of the loss)"),
        ("esg_scannet", "the same step but for batch norms and the mean of the loss)"),
        ("tmp_san", "the same step but for batch norms)"),
    ],
)
def test_what_micro_batches_change_is_said_by_task(recipe: str, what: str) -> None:
    here, _ = said(recipe, **({} if recipe == "ess_scannet" else {"sweeps_per_shard": 1}))
    assert what in here


def test_batch_norms_that_learn_nothing_change_nothing() -> None:
    config = load_config("configs/finetune_nuscenes.py")
    config.sweeps_per_shard, config.model.freeze_trunk = 1, True
    assert "micro-batches, the same step)" in ways_out(config, Geometry.of(config, 1))


def test_what_saves_nothing_more_is_not_named() -> None:
    config = load_config("configs/finetune_nuscenes.py")
    config.batch_size, config.model.dtype = 1, "bfloat16"
    assert ways_out(config, Geometry.of(config, 1)) == ""
