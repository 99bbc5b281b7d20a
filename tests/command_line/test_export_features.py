"""Specialised features of tiny rooms, written by the command and read as any others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tasks.test_room_stages import ROOMS, SIZE, write_labels
from tests.tiny_rooms import write_features, write_rooms
from uov_jax.checkpoints.files import load_state_dict_file, save_state_dict_file
from uov_jax.checkpoints.folder import read_arrays
from uov_jax.checkpoints.run import find_best_checkpoint, find_checkpoint
from uov_jax.checkpoints.transfer import export_checkpoint, import_checkpoint
from uov_jax.command_line import export_features, train
from uov_jax.errors import NotFiniteError
from uov_jax.fusion.features import SPECIALISED, FeatureFolder
from uov_jax.fusion.specialise import specialise_rooms
from uov_jax.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[2]
RECIPE = "configs/ess_scannet.py:sim"
FIELDS = (
    "--config.data.root=data/store", "--config.data.features=data/features",
    "--config.data.labels=data/labels", "--config.data.points=100", "--config.batch_size=1",
    "--config.total_steps=6", "--config.run.evaluate_every_epochs=1",
    "--config.run.tensorboard=False",
)  # fmt: skip
ALL_ROOMS = sorted(room for rooms in ROOMS.values() for room in rooms)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rooms, features, labels and a trained adapter in `runs`."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "configs").symlink_to(ROOT / "configs")
    data = folder / "data"
    vocabulary = load_vocabulary("scannet")
    store = write_rooms(data / "store", vocabulary, splits=ROOMS)
    write_features(data / "features", store, vocabulary, embedding_size=SIZE, length=3.0)
    write_labels(data / "labels", data)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train.main(["--config", RECIPE, *FIELDS, "--devices=1"]) == 0
    return folder


@pytest.fixture(autouse=True)
def there(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)


def adapted(place: Path) -> FeatureFolder:
    return FeatureFolder(place, load_vocabulary("scannet"))


def test_features_are_those_of_the_best_adapter_in_half_precision(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert export_features.main(["--config", RECIPE, *FIELDS]) == 0
    said = capsys.readouterr().out
    assert "4 of 4 rooms to specialise: about " in said
    assert "Wrote 4 rooms to data/specialised; 0 were there before." in said
    assert "Next: python scripts/train.py --config configs/esg_scannet.py:sim" in said
    assert "--config.data.features=data/specialised" in said
    best = find_best_checkpoint("runs/ess_scannet-sim")
    assert f"The adapter of {best}." in said
    source, found = adapted(Path("data/features")), adapted(Path("data/specialised"))
    assert found.manifest.kind == SPECIALISED
    np.testing.assert_array_equal(found.text_embeddings, source.text_embeddings)
    weights = {n: a.astype(np.float64) for n, a in read_arrays(best, ("parameters",)).items()}
    inner, outer, bias = (
        weights[f"parameters/fc.{name}"] for name in ("0.weight", "1.weight", "1.bias")
    )
    for room in ALL_ROOMS:
        points = int((Path("data/store/rooms") / room / "labels.npy").stat().st_size) - 128
        before, after = source.room(room, points), found.room(room, points)
        np.testing.assert_array_equal(before.views, after.views)
        x = before.features.astype(np.float64)
        expected = 0.95 * (x @ inner.T @ outer.T + bias) + 0.05 * x
        np.testing.assert_allclose(after.features, expected, rtol=1e-3, atol=1e-4)


def test_the_same_command_goes_on_and_shares_meet_in_one_folder(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["--config", RECIPE, *FIELDS, "--output", "data/shares"]
    assert export_features.main([*command, "--shard", "1/2"]) == 0
    said = capsys.readouterr().out
    assert "Shard 1/2: 2 of 2 rooms to specialise" in said
    assert "once every shard is done" in said
    assert export_features.main([*command, "--shard", "2/2"]) == 0
    assert export_features.main(command) == 0
    assert "0 of 4 rooms to specialise" in capsys.readouterr().out
    assert sorted(p.name for p in Path("data/shares").iterdir() if p.is_dir()) == ALL_ROOMS


def test_another_adapter_does_not_go_on_in_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--config", RECIPE, *FIELDS, "--output", str(tmp_path / "out"), "--split", "val"]
    assert export_features.main(command) == 0
    last = find_checkpoint("runs/ess_scannet-sim")
    tensors = {
        name.removeprefix("parameters/"): 2 * array
        for name, array in read_arrays(last, ("parameters",)).items()
    }
    file = save_state_dict_file(tmp_path / "other.pth", tensors, container="model_state_dict")
    assert export_features.main([*command, "--checkpoint", str(file)]) == 1
    assert "holds fused features of settings.adapter = " in capsys.readouterr().err


def test_an_adapter_is_not_taken_for_one_of_other_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its record says how much of a feature it keeps, which the tensors do not."""
    kept = "--config.model.share_kept=0.5"
    run = str(tmp_path / "run")
    assert train.main(["--config", RECIPE, *FIELDS, kept, "--devices=1", "--workdir", run]) == 0
    command = ["--config", RECIPE, *FIELDS, "--split", "val"]
    out = ["--output", str(tmp_path / "out")]
    file = str(tmp_path / "adapter.pth")
    export_checkpoint(run, file)
    import_checkpoint(load_state_dict_file(file), tmp_path / "imported")
    for place in (run, file, str(tmp_path / "imported")):
        assert export_features.main([*command, "--checkpoint", place, *out]) == 1
        assert (
            "trained with config.model.share_kept = 0.5, the recipe has 0.05: give --config."
            in (capsys.readouterr().err)
        )
        assert not (tmp_path / "out").exists()
    assert export_features.main([*command, kept, "--checkpoint", run, *out]) == 0
    manifest = adapted(tmp_path / "out").manifest
    assert (manifest.settings["share_kept"], manifest.settings["reduction"]) == (0.5, 4)
    weights = {
        name: array.astype(np.float64)
        for name, array in read_arrays(find_best_checkpoint(run), ("parameters",)).items()
    }
    inner, outer, bias = (
        weights[f"parameters/fc.{name}"] for name in ("0.weight", "1.weight", "1.bias")
    )
    (room,) = ROOMS["val"]
    points = int((Path("data/store/rooms") / room / "labels.npy").stat().st_size) - 128
    x = adapted(Path("data/features")).room(room, points).features.astype(np.float64)
    found = adapted(tmp_path / "out").room(room, points).features
    expected = 0.5 * (x @ inner.T @ outer.T + bias) + 0.5 * x
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_another_setting_of_a_file_that_tells_none_wants_another_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = {
        name.removeprefix("parameters/"): array
        for name, array in read_arrays(
            find_checkpoint("runs/ess_scannet-sim"), ("parameters",)
        ).items()
    }
    file = save_state_dict_file(tmp_path / "best.pth", tensors, container="model_state_dict")
    command = ["--config", RECIPE, *FIELDS, "--split", "val", "--checkpoint", str(file)]
    command += ["--output", str(tmp_path / "out")]
    assert export_features.main(command) == 0
    assert export_features.main([*command, "--config.model.share_kept=0.5"]) == 1
    assert "settings.share_kept = 0.05, not of 0.5: give another folder" in capsys.readouterr().err


def test_what_does_not_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str) -> str:
        assert export_features.main(["--config", RECIPE, *FIELDS, *arguments]) == 1
        return capsys.readouterr().err

    export_features.main(["--config", RECIPE, *FIELDS, "--output", str(tmp_path / "special")])
    capsys.readouterr()
    message = refused("--config.data.features=" + str(tmp_path / "special"))
    assert "trained on other features" in message
    file = tmp_path / "adapter.pth"
    export_checkpoint("runs/ess_scannet-sim", file)
    message = refused(
        "--config.data.features=" + str(tmp_path / "special"), "--checkpoint", str(file)
    )
    assert "specialised already" in message
    assert "no adapter there: train one" in refused(
        "--checkpoint", str(tmp_path / "nowhere" / "run")
    )
    assert export_features.main(["--config", "configs/esg_scannet.py"]) == 1
    assert "a recipe of the task 'esg'" in capsys.readouterr().err


def test_features_too_large_for_half_precision_are_not_written(tmp_path: Path) -> None:
    source = adapted(Path("data/features"))
    from uov_jax.datasets.rooms import RoomStore
    from uov_jax.fusion.features import FeatureWriter

    writer = FeatureWriter(tmp_path, source.manifest, source.text_embeddings)
    exported = specialise_rooms(
        RoomStore("data/store"), source, writer, lambda part: part.astype(np.float32) * 1e6,
        ALL_ROOMS[:1],
    )  # fmt: skip
    with pytest.raises(NotFiniteError, match=f"room {ALL_ROOMS[0]}: specialised features of"):
        list(exported)
    assert not writer.has(ALL_ROOMS[0])


def test_adapters_go_to_the_published_form_and_back(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    file = tmp_path / "best_model.pth"
    export_checkpoint("runs/ess_scannet-sim", file)
    content = torch.load(file, weights_only=True)["model_state_dict"]
    module = torch.nn.Module()
    module.fc = torch.nn.Sequential(
        torch.nn.Linear(SIZE, SIZE // 4, bias=False), torch.nn.Linear(SIZE // 4, SIZE)
    )
    module.load_state_dict(content, strict=True)
    # As the published code saves it.
    torch.save(
        {"epoch": 3, "miou": np.float64(0.5), "model_state_dict": module.state_dict(),
         "optimizer_state_dict": torch.optim.Adam(module.parameters()).state_dict()},
        tmp_path / "published.pth",
    )  # fmt: skip
    imported = import_checkpoint(load_state_dict_file(tmp_path / "published.pth"), tmp_path / "run")
    assert imported.shape == ("adapter", SIZE, SIZE, 3)
    assert not imported.report.missing
    before = read_arrays(find_checkpoint("runs/ess_scannet-sim"), ("parameters",))
    after = read_arrays(find_checkpoint(tmp_path / "run"), ("parameters",))
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    command = ["--config", RECIPE, *FIELDS, "--checkpoint", str(tmp_path / "run")]
    assert export_features.main([*command, "--output", str(tmp_path / "out")]) == 0
    x = torch.ones(2, SIZE)
    expected: Any = module.fc(x).detach().numpy()
    model = import_model(after)
    np.testing.assert_allclose(model(np.ones((2, SIZE))), 0.95 * expected + 0.05, atol=1e-6)


def import_model(arrays: dict[str, np.ndarray]) -> Any:
    """The adapter around the arrays of a checkpoint."""
    from flax import nnx

    from uov_jax.checkpoints.state_dict import arrays_to_state_dict, state_dict_to_model
    from uov_jax.models.adapter import FeatureAdapter

    model = FeatureAdapter(SIZE, rngs=nnx.Rngs(0))
    state_dict_to_model(model, arrays_to_state_dict(arrays))
    return lambda x: np.asarray(jax.jit(lambda y: model(y))(jnp.asarray(x, jnp.float32)))
