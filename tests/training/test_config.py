"""Recipes: the published values, the variants, and messages about wrong fields."""

from __future__ import annotations

from pathlib import Path

import pytest

from uov_jax.training.config import check_overrides, default_directory, load_config

ROOT = Path(__file__).parents[2]
RECIPES = ("tmp_san", "tmp_fcclip", "tmp_catseg", "tmp_slic")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(ROOT)


def test_the_published_recipe() -> None:
    config = load_config("configs/tmp_san.py")
    assert config.optimizer.to_dict() == {
        "name": "sgd",
        "learning_rate": 0.5,
        "head_learning_rate": None,
        "rates_for_batch_size": 16,
        "momentum": 0.9,
        "dampening": 0.1,
        "weight_decay": 1e-4,
    }
    assert (config.total_epochs, config.batch_size) == (40, 16)
    assert (config.schedule.name, config.schedule.per) == ("cosine", "epoch")
    assert tuple(config.data.voxel_size) == (0.1, 1.0, 0.1)
    assert config.model.batch_norm_momentum == 0.05


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("variant", ["", ":sim", ":sim-long"])
def test_every_recipe_has_the_fields_of_the_others(recipe: str, variant: str) -> None:
    config = load_config(f"configs/{recipe}.py{variant}")
    # The same variant: a variant may use another optimiser, which has other settings.
    reference = load_config(f"configs/tmp_san.py{variant}")
    for name in reference:
        assert set(config[name] if hasattr(config[name], "keys") else ()) == set(
            reference[name] if hasattr(reference[name], "keys") else ()
        )
    assert set(config) == set(reference)
    root = {"": "data/nuscenes", ":sim": "data/sim", ":sim-long": "data/sim-long"}[variant]
    assert config.data.root == root
    assert config.data.dumps.startswith(f"{root}/dumps/" if variant else "data/dumps/")


def test_recipes_without_words_have_no_text_term() -> None:
    assert load_config("configs/tmp_slic.py").loss.text_weight == 0.0


def test_configs_are_locked() -> None:
    with pytest.raises(AttributeError, match="batch_size"):
        load_config("configs/tmp_san.py").batchsize = 3


def test_unknown_variants_and_files_are_named() -> None:
    with pytest.raises(ValueError, match="no variant 'simm' .*sim, sim-long"):
        load_config("configs/tmp_san.py:simm")
    with pytest.raises(FileNotFoundError, match="tmp_sam.py: no such config; .*tmp_san.py"):
        load_config("configs/tmp_sam.py")
    with pytest.raises(ValueError, match="defines no get_config"):
        load_config("configs/common.py")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.batchsize=3", "no field 'batchsize'; did you mean batch_size"),
        ("--config.learning_rate=3", "did you mean .*optimizer.learning_rate"),
        ("--config.data.rot", "no field 'data.rot'; did you mean data.root"),
        ("--config.zzz=1", "no field 'zzz'; it has .*batch_size"),
    ],
)
def test_unknown_fields_are_named_with_those_like_them(argument: str, message: str) -> None:
    config = load_config("configs/tmp_san.py")
    with pytest.raises(ValueError, match=message):
        check_overrides(config, [argument])


def test_known_fields_pass() -> None:
    config = load_config("configs/tmp_san.py")
    check_overrides(config, ["train.py", "--config.total_steps=3", "--workdir=x", "--config=y"])


def test_default_directory() -> None:
    assert default_directory("configs/tmp_san.py:sim") == Path("runs/tmp_san-sim")
    assert default_directory("configs/tmp_san.py") == Path("runs/tmp_san")
