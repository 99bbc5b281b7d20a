"""Weights to start from: run directories and files, what is taken, what is refused and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from uov_jax.checkpoints.agreement import CheckpointMismatchError, VoxelSettings, reference_voxels
from uov_jax.checkpoints.files import save_state_dict_file
from uov_jax.checkpoints.folder import CheckpointError
from uov_jax.checkpoints.load import NetworkMismatchError, load_weights
from uov_jax.checkpoints.run import RunCheckpoints
from uov_jax.checkpoints.state import TrainState, split
from uov_jax.checkpoints.state_dict import LoadReport, model_to_state_dict, named_variables
from uov_jax.errors import MissingFileError
from uov_jax.models import MinkUNet

VOXELS = VoxelSettings((0.1, 1.0, 0.1), cylindrical=True)


def network(outputs: int, seed: int, variant: str = "minkunet14a") -> nnx.Module:
    """A network of random numbers, made without compiling anything."""
    model = nnx.eval_shape(
        lambda: MinkUNet(1, outputs, variant=variant, final_bias=True, rngs=nnx.Rngs(0))
    )
    rng = np.random.default_rng(seed)
    for _, variable in named_variables(model):
        shape = variable.get_value()
        variable.set_value(jnp.asarray(rng.normal(size=shape.shape) * 9).astype(shape.dtype))
    return model


@pytest.fixture(scope="module")
def pretrained() -> nnx.Module:
    """A network with an embedding's outputs."""
    return network(24, seed=1)


@pytest.fixture
def fresh() -> nnx.Module:
    return network(17, seed=2)


def write_run(directory: Path, model: nnx.Module, **data: Any) -> Path:
    """A run directory with two checkpoints of a model, the first one of zeros."""
    _, parameters, statistics = split(model)
    settings = {"voxel_size": (0.1, 1.0, 0.1), "cylindrical": True} | data
    checkpoints = RunCheckpoints(directory, {"data": settings}, {})
    for step, factor in ((3, 0), (9, 1)):
        arrays = {name: np.asarray(a) * np.float32(factor) for name, a in parameters.items()}
        statistics = {name: np.asarray(a) for name, a in statistics.items()}
        checkpoints.save(step, TrainState(np.int32(step), arrays, statistics, ()))
        checkpoints.wait()
    checkpoints.close()
    return directory


def load(model: nnx.Module, path: Path) -> LoadReport:
    return load_weights(model, path, VOXELS, other_head=True).report


def check_trunk(model: nnx.Module, pretrained: nnx.Module, before: dict[str, np.ndarray]) -> None:
    ours, theirs = model_to_state_dict(model), model_to_state_dict(pretrained)
    for name, array in ours.items():
        expected = before[name] if name.startswith("final.") else theirs[name]
        np.testing.assert_array_equal(array, expected, err_msg=name)


@pytest.mark.parametrize("deeper", ["", "checkpoints/9"])
def test_the_trunk_of_a_run_is_taken_and_its_head_refused(
    tmp_path: Path, pretrained: nnx.Module, fresh: nnx.Module, deeper: str
) -> None:
    before = model_to_state_dict(fresh)
    report = load(fresh, write_run(tmp_path / "run", pretrained) / deeper)
    check_trunk(fresh, pretrained, before)
    assert len(report.loaded) == len(before) - 2
    assert report.missing == ()
    assert [str(entry) for entry in report.refused] == [
        "final.bias: shape (1, 24) in the file, the model has (1, 17)",
        "final.kernel: shape (96, 24) in the file, the model has (96, 17)",
    ]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_of_pytorch_is_taken_too(
    tmp_path: Path, pretrained: nnx.Module, fresh: nnx.Module, suffix: str
) -> None:
    before = model_to_state_dict(fresh)
    state_dict = {
        f"model_points.{name}": array for name, array in model_to_state_dict(pretrained).items()
    }
    # The image network of a pre-training checkpoint, and SLidR's settings.
    state_dict["model_images.decoder.weight"] = np.zeros(3, np.float32)
    config = {"voxel_size": 0.1, "cylindrical_coordinates": True}
    path = save_state_dict_file(tmp_path / f"slidr{suffix}", state_dict, config)
    report = load(fresh, path)
    check_trunk(fresh, pretrained, before)
    assert "model_images.decoder.weight" in {entry.name for entry in report.refused}


def test_a_head_of_the_same_size_is_taken(tmp_path: Path, pretrained: nnx.Module) -> None:
    model = network(24, seed=3)
    report = load(model, write_run(tmp_path / "run", pretrained))
    assert report.refused == ()
    check_trunk(model, pretrained, model_to_state_dict(pretrained))


def test_nothing_there_says_what_to_do(tmp_path: Path, fresh: nnx.Module) -> None:
    with pytest.raises(MissingFileError, match="no checkpoint at .*nowhere"):
        load(fresh, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="empty: a folder without a checkpoint"):
        load(fresh, tmp_path / "empty")


def test_another_network_is_refused(
    tmp_path: Path, pretrained: nnx.Module, fresh: nnx.Module
) -> None:
    run = write_run(tmp_path / "run", pretrained)
    other = network(17, seed=0, variant="minkunet14b")
    with pytest.raises(
        NetworkMismatchError,
        match=r"checkpoints/9: \d+ tensors of the recipe's network without its last layer",
    ):
        load(other, run)
    path = save_state_dict_file(tmp_path / "x.pt", {"weight": np.zeros(3, np.float32)})
    with pytest.raises(NetworkMismatchError, match=r"x.pt: not one of 1 tensors matches the model"):
        load(fresh, path)
    state_dict = model_to_state_dict(pretrained)
    del state_dict["block1.0.conv1.kernel"]
    path = save_state_dict_file(tmp_path / "y.pt", state_dict)
    with pytest.raises(
        NetworkMismatchError, match=r"y.pt: 1 tensors .*first is block1.0.conv1.kernel: mi"
    ):
        load(fresh, path)


def test_voxels_of_another_kind_are_refused(
    tmp_path: Path, pretrained: nnx.Module, fresh: nnx.Module
) -> None:
    run = write_run(tmp_path / "a", pretrained, voxel_size=(0.05, 1.0, 0.05))
    with pytest.raises(CheckpointMismatchError, match=r"voxel_size = 0.05, .* = 0.1"):
        load(fresh, run)
    run = write_run(tmp_path / "b", pretrained, cylindrical=False)
    with pytest.raises(CheckpointMismatchError, match="checkpoints/9: trained with"):
        load(fresh, run)


def test_settings_are_stated_as_the_reference_does() -> None:
    assert reference_voxels((0.1, 1.0, 0.1), True)["voxel_size"] == 0.1
    assert reference_voxels((0.05, 0.05, 0.05), False)["voxel_size"] == 0.05
    assert reference_voxels((0.1, 0.5, 0.1), True)["voxel_size"] == [0.1, 0.5, 0.1]
    assert reference_voxels((0.1, 1.0, 0.1), False)["voxel_size"] == [0.1, 1.0, 0.1]
