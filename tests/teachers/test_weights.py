"""Strict loading: official key lists in, everything else refused with the tensor's name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from uov_jax.teachers.runtime import choose_device, mixed_precision
from uov_jax.teachers.weights import (
    OfficialFile,
    WeightsError,
    load_weights,
    read_tensors,
    require_files,
    weights_hash,
)

OFFICIAL = OfficialFile("teacher.pth", "https://example.org/teacher", 1.75e9)


def network() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def tensors(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {
        "0.weight": torch.rand(2, 3, generator=generator),
        "0.bias": torch.rand(2, generator=generator),
        "1.weight": torch.rand(2, generator=generator),
        "1.bias": torch.rand(2, generator=generator),
        "1.running_mean": torch.rand(2, generator=generator),
        "1.running_var": torch.rand(2, generator=generator),
        "1.num_batches_tracked": torch.tensor(3),
    }
    changed = state | {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in changed.items() if value is not None}


@pytest.mark.parametrize("container", [None, "model", "state_dict"])
def test_official_tensors_are_loaded_as_they_are(tmp_path: Path, container):
    content = tensors(criterion__empty_weight=torch.ones(4))
    torch.save({container: content, "iteration": 9} if container else content, tmp_path / "t.pth")
    module = network().train()
    load_weights(module, read_tensors(tmp_path / "t.pth"), "t.pth", ignored=("criterion.",))
    for name, value in module.state_dict().items():
        assert value.dtype == content[name].dtype
        assert torch.equal(value, content[name]), name
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_half_precision_files_are_widened():
    module = network()
    load_weights(module, tensors(**{"0__weight": torch.full((2, 3), 0.1).half()}), "t.pth")
    expected = torch.full((2, 3), 0.1).half().float()
    assert torch.equal(module.state_dict()["0.weight"], expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"0__weight": torch.ones(3, 2)}, r"'0.weight' has the shape \(3, 2\), expected \(2, 3\)"),
        ({"0__bias": torch.ones(2).double()}, r"'0.bias' is of torch.float64, expected torch.fl"),
        (
            {"1__num_batches_tracked": torch.tensor(3.0)},
            r"'1.num_batches_tracked' is of torch.float32, expected torch.int64",
        ),
        ({"0__bias": None, "1__bias": None}, r"'0.bias' is missing \(and 1 more\), .* 7 tensors"),
        ({"2__bias": torch.ones(1)}, r"'2.bias' is not one of this network, expected"),
    ],
)
def test_other_tensors_are_refused_by_name(changes, message):
    with pytest.raises(WeightsError, match=rf"t\.pth: tensor {message}"):
        load_weights(network(), tensors(**changes), "t.pth")


def test_missing_files_are_named_with_where_to_get_them(tmp_path: Path):
    message = r"'san' needs 1 weight file.*\n  teacher.pth \(1.75 GB\), .* https://example.org"
    with pytest.raises(FileNotFoundError, match=message):
        require_files("san", [], [OFFICIAL])
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such weight file; .*\n  teacher.pth"):
        require_files("san", [tmp_path / "nowhere"], [OFFICIAL])
    with pytest.raises(ValueError, match=r"needs 1 weight file\(s\), 2 given"):
        require_files("san", [tmp_path, tmp_path], [OFFICIAL])
    path = tmp_path / "t.pth"
    path.write_bytes(b"x")
    assert require_files("san", [path], [OFFICIAL]) == (path,)


def test_the_hash_is_that_of_the_content(tmp_path: Path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    assert weights_hash([one]) == hashlib.sha256(b"1").hexdigest()
    assert len({weights_hash(p) for p in ([one], [other], [one, other], [other, one])}) == 4


def test_devices_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    for name, message in [
        ("cuda", "sees no CUDA device"),
        ("meta", "teachers run on cpu and cuda"),
        ("gpu", "no device 'gpu'"),
    ]:
        with pytest.raises(ValueError, match=message):
            choose_device(name)


def test_autocast_is_off_unless_asked_for():
    a = torch.ones(2, 2)
    with mixed_precision(torch.device("cpu"), on=False):
        assert (a @ a).dtype == torch.float32
    with mixed_precision(torch.device("cpu"), on=True):
        assert (a @ a).dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning")
@pytest.mark.filterwarnings("ignore:User provided device_type of .cuda.:UserWarning")
@pytest.mark.parametrize("on", [False, True])
def test_float32_convolutions_are_whole_on_cuda_with_autocast_as_without(on):
    allowed = torch.backends.cudnn.allow_tf32
    assert allowed  # PyTorch's default, and why this is needed
    with mixed_precision(torch.device("cuda"), on=on):
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == allowed
