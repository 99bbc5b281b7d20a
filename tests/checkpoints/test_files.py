"""Checkpoint files: formats, containers, configs, and files that must not be trusted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from uov_jax.checkpoints.agreement import CheckpointMismatchError, require_agreement
from uov_jax.checkpoints.files import StoredNetwork, load_state_dict_file, save_state_dict_file
from uov_jax.errors import InputError

TENSORS = {
    "conv0p1s1.kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "bn0.bn.num_batches_tracked": np.array(7, np.int64),
}
CONFIG = {"voxel_size": 0.1, "cylindrical_coordinates": True, "name": "slidr"}
SUFFIXES = [".npz", ".safetensors", ".pt", ".pth"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("config", [CONFIG, None])
def test_files_round_trip(tmp_path: Path, suffix: str, config: dict[str, Any] | None) -> None:
    path = save_state_dict_file(tmp_path / f"network{suffix}", TENSORS, config)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    checkpoint = load_state_dict_file(path)
    assert checkpoint.path == path
    assert checkpoint.config == config
    assert checkpoint.state_dict.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert checkpoint.state_dict[name].dtype == value.dtype
        assert checkpoint.state_dict[name].shape == value.shape
        np.testing.assert_array_equal(checkpoint.state_dict[name], value)


@pytest.mark.parametrize("container", ["model_points", "state_dict", "model", None])
def test_torch_containers_of_known_trainers_are_opened(
    tmp_path: Path, container: str | None
) -> None:
    import torch

    tensors = {"final.kernel": torch.ones(3, 2, dtype=torch.bfloat16)}
    content = tensors if container is None else {container: tensors, "epoch": 3, "config": CONFIG}
    torch.save(content, tmp_path / "network.pt")
    checkpoint = load_state_dict_file(tmp_path / "network.pt")
    assert checkpoint.state_dict["final.kernel"].dtype == np.float32
    assert checkpoint.config == (None if container is None else CONFIG)


def test_halves_of_other_kinds_become_float32_and_are_checked(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    values = torch.tensor([1.5, 2.5])
    path = tmp_path / "x.safetensors"
    save_file({"a": values.bfloat16(), "b": values.half()}, path)
    found = load_state_dict_file(path).state_dict
    assert found["a"].dtype == np.float32
    assert found["b"].dtype == np.float16
    np.testing.assert_array_equal(found["a"], values.numpy())
    save_file({"a": torch.full((2,), torch.nan).bfloat16()}, path)
    with pytest.raises(InputError, match="not finite, the first is a"):
        load_state_dict_file(path)
    np.savez(tmp_path / "x.npz", a=np.ones(2, ml_dtypes.bfloat16))
    with pytest.raises(InputError, match=r"x\.npz: a is of the type .V2, expected numbers"):
        load_state_dict_file(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", a=np.array([np.nan + 1j]))
    with pytest.raises(InputError, match="not finite"):
        load_state_dict_file(tmp_path / "x.npz")


def test_types_that_are_not_known_are_named(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2).to(torch.float8_e4m3fn)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=r"x\.safetensors: .*float8_e4m3fn"):
        load_state_dict_file(tmp_path / "x.safetensors")


def test_where_tensors_were_looked_for_is_said(tmp_path: Path) -> None:
    import torch

    torch.save({"net": {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"under 'model_points'.*found net, epoch"):
        load_state_dict_file(tmp_path / "x.pt")


def test_what_is_no_tensor_is_left_out_and_named(tmp_path: Path) -> None:
    import torch

    content = {"state_dict": {"a": torch.ones(2)}, "net": StoredNetwork(tmp_path, {}, None)}
    torch.save(content, tmp_path / "mixed.pth.tar")
    found = load_state_dict_file(tmp_path / "mixed.pth.tar")
    assert list(found.state_dict) == ["a"]
    assert found.left_out == ("net: uov_jax.checkpoints.files.StoredNetwork",)
    torch.save({"net": StoredNetwork(tmp_path, {}, None)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other\.pt: no tensors inside.*left out were net: uov"):
        load_state_dict_file(tmp_path / "other.pt")


@pytest.mark.parametrize("name", ["network", "network.pth.tar", "network.bin", "x.safetensors"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_content_decides_and_not_the_ending(tmp_path: Path, name: str, suffix: str) -> None:
    path = save_state_dict_file(tmp_path / f"saved{suffix}", TENSORS, CONFIG)
    found = load_state_dict_file(path.rename(tmp_path / name))
    assert found.config == CONFIG
    assert found.state_dict.keys() == TENSORS.keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a checkpoint of torch.save, safetensors or numpy, or cut off: 0 bytes"),
        (b"version https://git-lfs", "which begin with b'version '"),
        (b"\x1f\x8b\x08" + bytes(20), "compressed by gzip"),
        (bytes(257) + b"ustar" + bytes(300), "a tar archive: unpack it"),
    ],
)
def test_what_a_file_seems_to_be_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "network.pt").write_bytes(content)
    with pytest.raises(InputError, match=rf"network\.pt: .*{re.escape(message)}"):
        load_state_dict_file(tmp_path / "network.pt")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_by_name(
    tmp_path: Path, suffix: str, value: float
) -> None:
    broken = np.zeros((3, 2), np.float32)
    broken[2, 1] = value
    path = save_state_dict_file(tmp_path / f"n{suffix}", TENSORS | {"final.kernel": broken})
    with pytest.raises(InputError, match="1 of 3 tensors .* not finite, the first is final.kernel"):
        load_state_dict_file(path)


def test_npz_with_pickles_inside_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", a=np.array([{"any": "object"}], dtype=object))
    with pytest.raises(ValueError, match=r"evil\.npz: not an \.npz of plain arrays"):
        load_state_dict_file(tmp_path / "evil.npz")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    path = save_state_dict_file(tmp_path / f"network{suffix}", TENSORS)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=rf"network\{suffix}: (not|damaged)"):
        load_state_dict_file(path)


def test_refusals_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*absent\.npz"):
        load_state_dict_file(tmp_path / "absent.npz")
    other = tmp_path / "network.h5"
    with pytest.raises(ValueError, match="unknown ending '.h5'"):
        save_state_dict_file(other, TENSORS)
    np.savez(tmp_path / "empty.npz")
    with pytest.raises(ValueError, match=r"empty\.npz: no tensors inside"):
        load_state_dict_file(tmp_path / "empty.npz")


def test_voxels_must_be_those_of_the_checkpoint() -> None:
    checkpoint = StoredNetwork(Path("slidr.pt"), TENSORS, CONFIG)
    run = {"voxel_size": 0.1, "cylindrical_coordinates": True}
    assert require_agreement(checkpoint, run) == ()
    assert require_agreement(checkpoint, run | {"voxel_size": np.float32(0.1)}) == ()
    with pytest.raises(
        CheckpointMismatchError, match=r"slidr\.pt: trained with voxel_size = 0\.1, .* has .* 0\.05"
    ):
        require_agreement(checkpoint, run | {"voxel_size": 0.05})
    with pytest.raises(CheckpointMismatchError, match="cylindrical_coordinates = True"):
        require_agreement(checkpoint, run | {"cylindrical_coordinates": False})
    with pytest.raises(CheckpointMismatchError, match="voxel_size"):
        require_agreement(checkpoint, run | {"voxel_size": (0.1, 1.0, 0.1)})
    silent = StoredNetwork(Path("other.pt"), TENSORS, None)
    assert require_agreement(silent, run) == ("voxel_size", "cylindrical_coordinates")


def test_torch_files_are_read_without_torch_and_written_with_it(tmp_path: Path) -> None:
    path = save_state_dict_file(tmp_path / "network.pt", TENSORS, CONFIG)
    program = (
        "import sys; sys.modules['torch'] = sys.modules['safetensors'] = None\n"
        "import uov_jax.checkpoints.files as c\n"
        f"found = c.load_state_dict_file({str(path)!r})\n"
        "print(sorted(found.state_dict), found.config)\n"
        "try: c.save_state_dict_file('other.pt', found.state_dict)\n"
        "except ImportError as error: print(error)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert f"{sorted(TENSORS)} {CONFIG}" in out.stdout
    assert ".pt files need the package 'torch': pip install torch" in out.stdout
