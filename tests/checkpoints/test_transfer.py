"""Import and export: PyTorch files of every trainer, strict loading there, identity here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flax import nnx

from tests.models.reference import recipe_weights, reference_shapes
from uov_jax.checkpoints.agreement import (
    CheckpointMismatchError,
    reference_voxels,
    require_agreement,
)
from uov_jax.checkpoints.files import load_state_dict_file, save_state_dict_file
from uov_jax.checkpoints.folder import CheckpointError, read_record
from uov_jax.checkpoints.load import read_network
from uov_jax.checkpoints.shape import find_shape
from uov_jax.checkpoints.state_dict import named_variables
from uov_jax.checkpoints.transfer import export_checkpoint, import_checkpoint
from uov_jax.models import MinkUNet, build_model

ROOT = Path(__file__).parents[2]
CONFIG = {"voxel_size": 0.1, "cylindrical_coordinates": True, "name": "slidr"}
PUBLISHED = reference_voxels((0.1, 1.0, 0.1), cylindrical=True)


class ReferenceLayout(torch.nn.Module):
    """A module whose state_dict has exactly the names and shapes of the official checkpoint."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            *path, last = name.split(".")
            owner: torch.nn.Module = self
            for part in path:
                if not hasattr(owner, part):
                    owner.add_module(part, torch.nn.Module())
                owner = getattr(owner, part)
            if last == "num_batches_tracked":
                owner.register_buffer(last, torch.zeros(shape, dtype=torch.int64))
            elif last.startswith("running_"):
                owner.register_buffer(last, torch.zeros(shape))
            else:
                owner.register_parameter(last, torch.nn.Parameter(torch.zeros(shape)))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The full network as SLidR and UOV write it."""
    path = tmp_path_factory.mktemp("published") / "slidr.pt"
    return save_state_dict_file(path, recipe_weights("res16unet34c"), CONFIG)


@pytest.fixture(scope="module")
def run(published: Path) -> Path:
    """That file, imported."""
    imported = import_checkpoint(load_state_dict_file(published), published.parent / "run")
    assert imported.shape == ("res16unet34c", 1, 17, 374)
    assert imported.folder == published.parent / "run" / "checkpoints" / "0"
    assert not imported.report.missing
    assert not imported.report.refused
    return published.parent / "run"


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_an_export_loads_strictly_into_the_reference_layout_and_back_to_the_same_bits(
    tmp_path: Path, run: Path, ending: str
) -> None:
    file = tmp_path / f"exported{ending}"
    export_checkpoint(run, file)
    if ending == ".pt":
        content = torch.load(file, weights_only=True)
        assert content["config"] == {
            "voxel_size": 0.1,
            "cylindrical_coordinates": True,
            "model_n_out": 17,
        }
        tensors = content["model_points"]
    else:
        from safetensors.torch import load_file

        tensors = load_file(file)
    module = ReferenceLayout(reference_shapes("res16unet34c"))
    module.load_state_dict(tensors, strict=True)
    weights = recipe_weights("res16unet34c")
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), weights[name], err_msg=name)
    again = import_checkpoint(load_state_dict_file(file), tmp_path / "again")
    assert not again.report.missing
    before, after = read_network(run), read_network(tmp_path / "again")
    assert before.state_dict.keys() == after.state_dict.keys() == weights.keys()
    for name, value in before.state_dict.items():
        assert after.state_dict[name].dtype == value.dtype == weights[name].dtype
        np.testing.assert_array_equal(after.state_dict[name], value, err_msg=name)
    assert require_agreement(after, PUBLISHED) == ()


def small_weights() -> dict[str, np.ndarray]:
    """A network of another variant, every number different."""
    model = nnx.eval_shape(lambda: build_model("minkunet14a", 3, 20, rngs=nnx.Rngs(0)))
    generator = np.random.default_rng(0)
    weights = {}
    for name, variable in named_variables(model):
        value = variable.get_value()
        counter = value.dtype.kind == "i"
        weights[name] = generator.standard_normal(value.shape).astype(value.dtype)
        weights[name] = np.array(7, np.int64) if counter else weights[name]
    return weights


def prefixed(prefix: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()}


image_network = {"encoder.conv1.weight": torch.ones(2, 3, 3, 3)}
STYLES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "SLidR, UOV, Seal": lambda t: {
        "model_points": t,
        "model_images": image_network,
        "config": CONFIG,
        "epoch": 3,
    },
    "Lightning, model": lambda t: {"state_dict": prefixed("model.")(t), "epoch": 3},
    "Lightning, model_points": lambda t: {
        "state_dict": prefixed("model_points.")(t) | prefixed("model_images.")(image_network)
    },
    "DataParallel": lambda t: {"model_points": prefixed("module.")(t)},
    "encoder": lambda t: {"state_dict": prefixed("module.encoder.")(t)},
    "OpenScene": lambda t: {
        "epoch": 99,
        "state_dict": prefixed("net3d.")(t),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]},
        "best_iou": 0.5,
    },
    "OpenScene on several devices": lambda t: {"state_dict": prefixed("module.net3d.")(t)},
    "DepthContrast": lambda t: {
        "epoch": 300,
        "model": prefixed("module.trunk.2.")(t) | {"module.trunk.0.mlp.weight": torch.ones(4, 3)},
        "optimizer": {},
        "train_criterion": {},
    },
    "bare": lambda t: t,
}


@pytest.mark.parametrize("style", STYLES)
def test_files_of_every_trainer_are_imported_whole(tmp_path: Path, style: str) -> None:
    weights = small_weights()
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
    torch.save(STYLES[style](tensors), tmp_path / "other.pt")
    imported = import_checkpoint(load_state_dict_file(tmp_path / "other.pt"), tmp_path / "run")
    assert imported.shape == ("minkunet14a", 3, 20, len(weights))
    assert sorted(imported.report.loaded) == sorted(weights)
    extra = {"Lightning, model_points": "model_images", "DepthContrast": "trunk.0.mlp.weight"}
    refused = [entry.name for entry in imported.report.refused]
    assert len(refused) == (style in extra)
    assert all(name.startswith(extra[style]) for name in refused)
    found = read_network(tmp_path / "run").state_dict
    assert found.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    report = (tmp_path / "run" / "import.txt").read_text()
    assert "minkunet14a from" in report
    assert all(f"loaded: {name}\n" in report for name in weights)
    assert all(f"refused: {name}" in report for name in refused)


def test_what_a_file_lacks_has_first_weights_and_is_reported(tmp_path: Path) -> None:
    weights = small_weights()
    missing = weights.pop("bn0.bn.weight")
    weights["block1.0.conv1.kernel"] = weights["block1.0.conv1.kernel"][:, :-1]
    path = save_state_dict_file(tmp_path / "part.npz", weights)
    imported = import_checkpoint(load_state_dict_file(path), tmp_path / "run")
    assert imported.report.missing == ("bn0.bn.weight",)
    assert [entry.name for entry in imported.report.refused] == ["block1.0.conv1.kernel"]
    found = read_network(tmp_path / "run").state_dict
    np.testing.assert_array_equal(found["bn0.bn.weight"], np.ones_like(missing))
    assert np.abs(found["block1.0.conv1.kernel"]).max() > 0
    np.testing.assert_array_equal(found["final.kernel"], weights["final.kernel"])


def test_voxels_of_the_file_are_kept_and_compared(tmp_path: Path) -> None:
    weights = small_weights()
    for name, config, stored, agrees in (
        ("cylinders", CONFIG, {"voxel_size": [0.1, 1.0, 0.1], "cylindrical": True}, True),
        (
            "cubes",
            {"voxel_size": 0.05, "cylindrical_coordinates": False},
            {"voxel_size": [0.05, 0.05, 0.05], "cylindrical": False},
            False,
        ),
        (
            "own",
            {"voxel_size": [0.1, 2.0, 0.1], "cylindrical_coordinates": True},
            {"voxel_size": [0.1, 2.0, 0.1], "cylindrical": True},
            False,
        ),
    ):
        path = save_state_dict_file(tmp_path / f"{name}.npz", weights, config)
        folder = import_checkpoint(load_state_dict_file(path), tmp_path / name).folder
        assert read_record(folder)["config"]["data"] == stored
        network = read_network(folder)
        assert network.config is not None
        assert {key: network.config[key] for key in PUBLISHED} == {
            key: config[key] for key in PUBLISHED
        }
        if agrees:
            assert require_agreement(network, PUBLISHED) == ()
        else:
            with pytest.raises(CheckpointMismatchError, match=f"{name}.*but this run has"):
                require_agreement(network, PUBLISHED)


def test_a_file_that_is_silent_about_voxels_stays_silent(tmp_path: Path) -> None:
    path = save_state_dict_file(tmp_path / "bare.npz", small_weights())
    import_checkpoint(load_state_dict_file(path), tmp_path / "run")
    assert require_agreement(read_network(tmp_path / "run"), PUBLISHED) == tuple(PUBLISHED)


def test_refusals_name_the_place(tmp_path: Path) -> None:
    path = save_state_dict_file(tmp_path / "other.npz", {"backbone.weight": np.zeros((3, 3))})
    with pytest.raises(ValueError, match=r"other\.npz: no tensor 'conv0p1s1.kernel' .* backbone"):
        import_checkpoint(load_state_dict_file(path), tmp_path / "run")
    config = {"voxel_size": [0.1, 0.2], "cylindrical_coordinates": True}
    path = save_state_dict_file(tmp_path / "two.npz", small_weights(), config)
    with pytest.raises(ValueError, match=r"two\.npz: its voxel_size is \[0\.1, 0\.2\]"):
        import_checkpoint(load_state_dict_file(path), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    path = save_state_dict_file(tmp_path / "good.npz", small_weights())
    import_checkpoint(load_state_dict_file(path), tmp_path / "run")
    with pytest.raises(ValueError, match="run: a run is there already"):
        import_checkpoint(load_state_dict_file(path), tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty: a folder without a checkpoint; expected a"):
        read_network(tmp_path / "empty")
    with pytest.raises(ValueError, match="unknown ending '.onnx'"):
        export_checkpoint(tmp_path / "run", tmp_path / "network.onnx")


def script(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )


def test_the_scripts_say_what_they_did(tmp_path: Path, published: Path) -> None:
    done = script(
        "import_checkpoint.py", published, "--output", tmp_path / "run",
        "--config", "configs/finetune_nuscenes.py",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "res16unet34c, 1 input channel(s), 17 outputs: loaded 374 tensors" in done.stdout
    run = tmp_path / "run"
    evaluation = f"scripts/evaluate.py --config configs/finetune_nuscenes.py --checkpoint {run}"
    assert f"Next: python {evaluation}" in done.stdout
    # Scores of classes are no embeddings.
    done = script(
        "import_checkpoint.py", published, "--output", tmp_path / "other",
        "--config", "configs/tmp_san.py",
    )  # fmt: skip
    assert "evaluate.py --config configs/annotation_free_san.py --checkpoint" in done.stdout
    done = script("export_checkpoint.py", tmp_path / "run", "--output", tmp_path / "out.pt")
    assert done.returncode == 0, done.stderr
    assert "Wrote 374 tensors of 37,8" in done.stdout
    assert load_state_dict_file(tmp_path / "out.pt").state_dict.keys() == (
        load_state_dict_file(published).state_dict.keys()
    )


def test_a_network_that_no_recipe_trains_is_not_sent_to_one(tmp_path: Path) -> None:
    path = save_state_dict_file(tmp_path / "small.npz", small_weights(), CONFIG)
    done = script("import_checkpoint.py", path, "--output", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    recipe = "configs/finetune_semantickitti.py trains res16unet34c with 1 input channel"
    assert f"Next: a recipe of your own: {recipe}" in done.stdout


def test_the_scripts_end_with_one_line_where_something_is_wrong(tmp_path: Path) -> None:
    other = save_state_dict_file(
        tmp_path / "cubes.npz", small_weights(), CONFIG | {"cylindrical_coordinates": False}
    )
    config = ("--config", "configs/tmp_san.py")
    for name, arguments, message in (
        ("import_checkpoint.py", (tmp_path / "no.pt", "--output", tmp_path), "no checkpoint at"),
        (
            "import_checkpoint.py",
            (other, "--output", tmp_path / "run", *config),
            "cubes.npz: trained with cylindrical_coordinates = False, but this run has",
        ),
        (
            "export_checkpoint.py",
            (tmp_path, "--output", tmp_path / "a.pt"),
            "a folder without a checkpoint; exp",
        ),
    ):
        done = script(name, *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("variant", ["minkunet14a", "minkunet18a", "minkunet34c"])
def test_a_variant_recognises_its_own_tensors(variant: str) -> None:
    """Shapes are all that is looked at; the smaller network's are part of the larger one's."""
    model = nnx.eval_shape(lambda: MinkUNet(3, 768, variant=variant, rngs=nnx.Rngs(0)))
    tensors = {
        name: np.broadcast_to(np.float32(0), var.get_value().shape)
        for name, var in named_variables(model)
    }
    assert find_shape(tensors) == (variant, 3, 768, len(tensors))


def test_a_network_of_rooms_goes_to_openscenes_form_and_back(tmp_path: Path) -> None:
    """MinkUNet18A: {"state_dict": {"net3d.NAME": ...}}, which OpenScene's loader takes strictly."""
    weights = recipe_weights("minkunet18a")
    tensors = {f"module.net3d.{n}": torch.from_numpy(np.array(v)) for n, v in weights.items()}
    # As its training saves it, on several devices.
    published = {
        "epoch": 99,
        "state_dict": tensors,
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999)}]},
        "best_iou": np.float64(0.47),
    }
    torch.save(published, tmp_path / "model_best.pth.tar")
    done = script("import_checkpoint.py", tmp_path / "model_best.pth.tar", "--output",
                  tmp_path / "run", "--config", "configs/esg_scannet.py")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "minkunet18a, 3 input channel(s), 768 outputs: loaded" in done.stdout
    assert "does not state voxel_size: taken as the recipe's" in done.stdout
    evaluation = f"evaluate.py --config configs/esg_scannet.py --checkpoint {tmp_path / 'run'}"
    assert evaluation in done.stdout
    done = script("export_checkpoint.py", tmp_path / "run", "--output", tmp_path / "out.pth.tar")
    assert done.returncode == 0, done.stderr
    assert "['state_dict']" in done.stdout
    assert f"import_checkpoint.py {tmp_path / 'out.pth.tar'} --output {tmp_path / 'out'}" in (
        done.stdout
    )
    content = torch.load(tmp_path / "out.pth.tar", weights_only=True)
    module = torch.nn.Module()
    module.net3d = ReferenceLayout(reference_shapes("minkunet18a"))
    module.load_state_dict(content["state_dict"], strict=True)
    for name, tensor in module.net3d.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), weights[name], err_msg=name)
    again = load_state_dict_file(tmp_path / "out.pth.tar")
    assert import_checkpoint(again, tmp_path / "again").shape.variant == "minkunet18a"


def test_networks_of_rooms_are_sent_to_their_recipe(tmp_path: Path) -> None:
    path = save_state_dict_file(tmp_path / "adapter.npz", adapter_tensors(64, 16))
    done = script("import_checkpoint.py", path, "--output", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "adapter, 64 input channel(s), 64 outputs: loaded 3 tensors" in done.stdout
    command = f"export_features.py --config configs/ess_scannet.py --checkpoint {tmp_path / 'run'}"
    assert command in done.stdout
    with pytest.raises(ValueError, match=r"adapter of embeddings is \(D / reduction, D\)"):
        find_shape(adapter_tensors(64, 50))
    with pytest.raises(ValueError, match=r"\.pth\.tar is for networks of voxels"):
        export_checkpoint(tmp_path / "run", tmp_path / "adapter.pth.tar")


def adapter_tensors(size: int, hidden: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"fc.0.weight": (hidden, size), "fc.1.weight": (size, hidden), "fc.1.bias": (size,)}
    return {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
