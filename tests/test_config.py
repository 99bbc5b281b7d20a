"""Recipes: the published values, the variants, and messages about wrong fields."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from uov_jax.command_line import command
from uov_jax.command_line.recipe import change_fields
from uov_jax.config import check_overrides, default_directory, load_config
from uov_jax.errors import InputError, UserError

ROOT = Path(__file__).parents[1]
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
        "rates_for_batch_size": 4,
        "momentum": 0.9,
        "dampening": 0.1,
        "weight_decay": 1e-4,
    }
    assert (config.total_epochs, config.batch_size, config.sweeps_per_shard) == (40, 4, 1)
    assert not config.gather_shards
    assert (config.schedule.name, config.schedule.per) == ("cosine", "epoch")
    assert tuple(config.data.voxel_size) == (0.1, 1.0, 0.1)
    assert config.model.batch_norm_momentum == 0.05


@pytest.mark.parametrize("teacher", ["san", "fcclip", "catseg"])
def test_pretraining_with_the_steps_of_slidr(teacher: str) -> None:
    released = load_config(f"configs/tmp_{teacher}.py")
    config = load_config(f"configs/tmp_{teacher}.py:slidr")
    assert (config.batch_size, config.sweeps_per_shard) == (16, 4)
    assert config.optimizer.rates_for_batch_size == 16
    assert config.optimizer.learning_rate == released.optimizer.learning_rate == 0.5
    slic = load_config("configs/tmp_slic.py")
    assert (slic.batch_size, slic.sweeps_per_shard) == (16, 4)
    with config.unlocked(), released.unlocked():
        for each in (config, released):
            each.update(batch_size=0, sweeps_per_shard=0)
            each.optimizer.rates_for_batch_size = 0
    assert config == released


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


def test_the_published_recipe_of_annotation_free_training() -> None:
    config = load_config("configs/annotation_free_fcclip.py")
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.head_learning_rate) == (0.02, 2.0)
    assert (optimizer.momentum, optimizer.dampening, optimizer.weight_decay) == (0.9, 0.1, 1e-4)
    assert (config.total_epochs, config.batch_size) == (5, 16)
    # One term sees all of them, whatever the number of devices.
    assert (config.sweeps_per_shard, config.gather_shards) == (None, True)
    assert config.model.batch_norm_momentum == 0.05
    assert (config.data.train_split, config.data.val_split) == ("train", "val")
    assert config.init.checkpoint == "runs/tmp_fcclip"
    assert config.data.labels == "data/superpoints/fcclip"


@pytest.mark.parametrize(
    ("recipe", "rates", "batch", "split", "frozen"),
    [
        ("finetune_nuscenes", (0.02, 2.0), 16, "train:1%", False),
        ("finetune_semantickitti", (0.05, 2.0), 10, "train:1%", False),
        ("linear_probing_nuscenes", (0.05, None), 16, "train", True),
    ],
)
def test_the_published_recipes_of_fine_tuning(
    recipe: str, rates: tuple[float, float | None], batch: int, split: str, frozen: bool
) -> None:
    config = load_config(f"configs/{recipe}.py")
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.head_learning_rate) == rates
    assert optimizer.rates_for_batch_size == config.batch_size == batch
    assert (config.sweeps_per_shard, config.gather_shards) == (None, True)
    assert (config.data.train_split, config.data.val_split) == (split, "val")
    assert (config.total_epochs, config.model.batch_norm_momentum) == (30, 0.02)
    assert config.model.freeze_trunk == frozen


@pytest.mark.parametrize(
    ("variant", "splits"),
    [
        ("", ("train:1%", "val")),
        (":25", ("train:25%", "val")),
        (":parametrize", ("parametrize:1%", "verify")),
        (":10-parametrize", ("parametrize:10%", "verify")),
        (":sim", ("sim-0001", "sim_val")),
    ],
)
def test_shares_and_protocols_of_fine_tuning(variant: str, splits: tuple[str, str]) -> None:
    config = load_config(f"configs/finetune_nuscenes.py{variant}")
    assert (config.data.train_split, config.data.val_split) == splits


@pytest.mark.parametrize("variant", ["7", "5-10", "5-val", "parametrised"])
def test_unknown_shares_are_refused(variant: str) -> None:
    with pytest.raises(ValueError, match=f"no variant '{variant}' .*1, 5, 10, 25, 100"):
        load_config(f"configs/finetune_nuscenes.py:{variant}")


def test_the_parametrize_protocol_leaves_the_validation_scenes_alone() -> None:
    for recipe in ("annotation_free_san", "linear_probing_nuscenes"):
        config = load_config(f"configs/{recipe}.py:parametrize")
        assert (config.data.train_split, config.data.val_split) == ("parametrize", "verify")


@pytest.mark.parametrize("recipe", ["annotation_free_catseg", "linear_probing_nuscenes"])
def test_simulated_stages_follow_each_other(recipe: str) -> None:
    for variant in ("sim", "sim-long"):
        config = load_config(f"configs/{recipe}.py:{variant}")
        assert config.init.checkpoint == str(default_directory(f"configs/tmp_san.py:{variant}"))
        assert config.data.root == f"data/{variant}"
        assert config.data.get("labels", f"data/{variant}/superpoints/simulated") == (
            f"data/{variant}/superpoints/simulated"
        )
    with pytest.raises(ValueError, match="no variant 'simm' .*, there are parametrize, sim, sim-l"):
        load_config(f"configs/{recipe}.py:simm")


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


OWN = """
from configs import common
def get_config(arg=None):
    return common.pretraining()
"""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("variant", ["", ":sim"])
def test_a_recipe_has_a_name_which_is_good_anywhere(elsewhere: Path, variant: str) -> None:
    config = load_config(f"tmp_san{variant}")
    assert config == load_config(str(ROOT / "configs" / "tmp_san.py") + variant)
    # Commands that are printed name files of a checkout.
    assert config == load_config(f"configs/tmp_san.py{variant}")
    assert default_directory(f"tmp_san{variant}") == default_directory(
        f"configs/tmp_san.py{variant}"
    )


def test_a_recipe_of_ones_own_goes_before_one_of_that_name(elsewhere: Path) -> None:
    (elsewhere / "configs").mkdir()
    (elsewhere / "configs" / "tmp_san.py").write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(arg=None):\n    return ConfigDict({'mine': arg})\n"
    )
    assert load_config("tmp_san:sim").mine == "sim"
    assert load_config("configs/tmp_san.py:sim").mine == "sim"
    assert load_config("tmp_slic").task == "tri_modal"


def test_a_recipe_of_ones_own_may_begin_with_what_the_others_share(elsewhere: Path) -> None:
    (elsewhere / "mine.py").write_text(OWN)
    assert load_config("mine.py").task == "tri_modal"


def test_what_recipes_share_is_their_own_folders(elsewhere: Path) -> None:
    """Whatever was imported before, and whatever else has that name."""
    load_config("tmp_san")
    for name in ("one", "two"):
        folder = elsewhere / name / "configs"
        folder.mkdir(parents=True)
        (folder / "recipe.py").write_text(OWN)
        (folder / "common.py").write_text(
            "from ml_collections import ConfigDict\n"
            f"def pretraining():\n    return ConfigDict({{'task': '{name}'}})\n"
        )
    before = (list(sys.path), {name for name in sys.modules if name.startswith("configs")})
    assert load_config("one/configs/recipe.py").task == "one"
    assert load_config("two/configs/recipe.py").task == "two"
    assert load_config("tmp_san").task == "tri_modal"
    after = (list(sys.path), {name for name in sys.modules if name.startswith("configs")})
    assert after == before


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tmp_sam:sim", r"^tmp_sam: no such config; there are annotation_free_catseg, .*tmp_san"),
        ("configs/tmp_sam.py", r"^configs/tmp_sam.py: no such config; there are annotation_free"),
        # Not by its name alone: a folder that is named is meant.
        ("other/tmp_san.py", r"^other/tmp_san.py: no such config$"),
        ("/configs/tmp_san.py", r"^/configs/tmp_san.py: no such config$"),
        ("common", r"configs/common.py: not a config, it defines no get_config"),
    ],
)
def test_a_recipe_that_there_is_not_is_refused_with_those_that_there_are(
    elsewhere: Path, spec: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_config(spec)


def test_recipes_may_lie_in_folders_with_colons_spaces_and_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a:b c" / "übung"
    folder.mkdir(parents=True)
    recipe = folder / "own.py"
    recipe.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(arg=None):\n    return ConfigDict({'arg': arg or ''})\n"
    )
    assert load_config(str(recipe)).arg == ""
    assert load_config(f"{recipe}:small").arg == "small"
    assert default_directory(f"{recipe}:small") == Path("runs/own-small")
    monkeypatch.setenv("HOME", str(folder))
    assert load_config("~/own.py:small").arg == "small"
    with pytest.raises(FileNotFoundError, match="own.py: no such config"):
        load_config(str(tmp_path / "x:y" / "own.py"))


def test_a_tilde_in_a_path_is_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config = change_fields(load_config("configs/finetune_nuscenes.py"), [
        "--config.data.root=~/nuscenes", "--config.init.checkpoint=~/runs/a", "--config.seed=3",
    ])  # fmt: skip
    assert config.data.root == "/home/me/nuscenes"
    assert config.init.checkpoint == "/home/me/runs/a"
    assert config.seed == 3
    config = change_fields(
        load_config("configs/tmp_san.py"), ["--config.data.vocabulary=~/words.json"]
    )
    assert config.data.vocabulary == "/home/me/words.json"


def test_a_tilde_in_an_option_is_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    parser = command.parser("")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--checkpoint", type=command.path_text)
    options = parser.parse_args(["--data=~/nuscenes", "--checkpoint=~/run"])
    assert options.data == Path("/home/me/nuscenes")
    assert options.checkpoint == "/home/me/run"
    assert parser.parse_args(["--checkpoint=./run"]).checkpoint == "./run"


def test_the_home_of_nobody_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"~no-such-user/x: .* Write the folder itself"):
        change_fields(load_config("configs/tmp_san.py"), ["--config.data.root=~no-such-user/x"])
    parser = command.parser("")
    parser.add_argument("--data", type=Path)
    with pytest.raises(SystemExit):
        parser.parse_args(["--data=~no-such-user/x"])
    assert "~no-such-user/x: " in capsys.readouterr().err


@pytest.mark.parametrize("dataset", ["scannet", "s3dis"])
@pytest.mark.parametrize(("variant", "batch", "epochs"), [("", 24, 150), (":paper", 16, 80)])
def test_the_published_recipes_of_ess(dataset: str, variant: str, batch: int, epochs: int) -> None:
    config = load_config(f"configs/ess_{dataset}.py{variant}")
    assert (config.batch_size, config.total_epochs, config.data.points) == (batch, epochs, 40_000)
    assert config.optimizer.to_dict() == {
        "name": "adam", "learning_rate": 3e-3, "betas": (0.9, 0.999), "weight_decay": 4e-4,
    }  # fmt: skip
    assert (config.schedule.name, config.schedule.step_epochs, config.schedule.gamma) == (
        "step", 20, 0.7,
    )  # fmt: skip
    assert (config.model.reduction, config.model.share_kept) == (4, 0.05)
    assert config.reference_quirks == ()
    assert config.data.vocabulary == dataset
    assert config.data.labels == f"data/{dataset}/pseudo_labels"


@pytest.mark.parametrize("dataset", ["scannet", "s3dis"])
@pytest.mark.parametrize(
    ("variant", "network", "features"),
    [
        ("", "minkunet18a", "specialised"),
        (":14a", "minkunet14a", "specialised"),
        (":plain", "minkunet18a", "features"),
        (":14a-plain", "minkunet14a", "features"),
    ],
)
def test_the_published_recipes_of_esg(
    dataset: str, variant: str, network: str, features: str
) -> None:
    config = load_config(f"configs/esg_{dataset}.py{variant}")
    assert (config.batch_size, config.total_epochs, config.data.loop) == (4, 100, 5)
    assert tuple(config.data.voxel_size) == (0.02,) * 3
    # Ten times the 1e-4 of the published file, as its steps have it.
    assert (config.optimizer.name, config.optimizer.learning_rate) == ("adam", 1e-3)
    assert (config.schedule.name, config.schedule.per, config.schedule.power) == (
        "poly", "step", 0.9,
    )  # fmt: skip
    assert config.model.variant == network
    assert config.data.features == f"data/{dataset}/{features}"
    assert config.reference_quirks == ()
    assert all(config.data[name] for name in ("rotate", "elastic", "flip", "colors"))


@pytest.mark.parametrize("dataset", ["scannet", "s3dis"])
def test_simulated_rooms_go_from_stage_to_stage(dataset: str) -> None:
    first = load_config(f"configs/ess_{dataset}.py:sim")
    second = load_config(f"configs/esg_{dataset}.py:sim")
    plain = load_config(f"configs/esg_{dataset}.py:sim-plain")
    for config in (first, second, plain):
        assert (config.data.root, config.data.vocabulary) == ("data/sim-rooms/store", "scannet")
    assert first.data.features == plain.data.features == "data/sim-rooms/features"
    assert first.data.labels == "data/sim-rooms/pseudo_labels"
    assert second.data.features == "data/sim-rooms/specialised"
    with pytest.raises(ValueError, match="no variant 'simm' .*there are paper, sim"):
        load_config(f"configs/ess_{dataset}.py:simm")
    with pytest.raises(ValueError, match="no variant 'sim-14a' .*there are 14a, plain"):
        load_config(f"configs/esg_{dataset}.py:sim-14a")
