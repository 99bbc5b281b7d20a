"""Reading pickles: what torch, numpy and trainers write comes back, and nothing ever runs."""

from __future__ import annotations

import argparse
import collections
import pickle
import pickletools
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uov_jax.pickled import PickleError, read_pickled

RAN: list[str] = []


def run(what: str) -> str:
    """What a hostile pickle would call."""
    RAN.append(what)
    return what


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.call


class Own:
    """A class of somebody's own."""

    def __init__(self) -> None:
        self.value = 3

    def __setstate__(self, state: Any) -> None:
        run("setstate")


def save(content: Any, path: Path, how: str) -> Path:
    if how.startswith("protocol"):
        path.write_bytes(pickle.dumps(content, protocol=int(how[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    return path


@pytest.fixture(params=["zip", "legacy"])
def torch_way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["protocol0", "protocol1", "protocol2", "protocol4", "protocol5"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_tensors_of_every_kind_come_back(tmp_path: Path, torch_way: str) -> None:
    whole = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {
        "float32": torch.randn(3, 4),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
        "float64": torch.randn(2, dtype=torch.float64),
        "float16": torch.randn(2).half(),
        "bfloat16": torch.randn(5).bfloat16(),
        "int64": torch.tensor([1, -2]),
        "int32": torch.tensor([3], dtype=torch.int32),
        "int16": torch.tensor([3], dtype=torch.int16),
        "int8": torch.tensor([-3], dtype=torch.int8),
        "uint8": torch.tensor([250], dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "transposed": whole.permute(2, 0, 1),
        "part": whole[1, :, 1:3],
        "same storage": whole[0],
        "expanded": torch.ones(2, 1).expand(2, 1000),
    }
    found = read_pickled(save(tensors, tmp_path / "x", torch_way))
    assert found.left_out == ()
    assert found.content.keys() == tensors.keys()
    for name, tensor in tensors.items():
        plain = tensor.detach()
        expected = (plain.float() if name == "bfloat16" else plain).numpy()
        assert found.content[name].dtype == expected.dtype, name
        np.testing.assert_array_equal(found.content[name], expected, err_msg=name)


def test_a_modules_state_dict_comes_back(tmp_path: Path, torch_way: str) -> None:
    """With the attribute that torch gives it."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    content = {"state_dict": module.state_dict(), "optimizer": optimizer.state_dict()}
    found = read_pickled(save(content, tmp_path / "x.pth.tar", torch_way))
    assert found.left_out == ()
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(found.content["state_dict"][name], tensor.numpy())
    moment = optimizer.state_dict()["state"][0]["exp_avg"].numpy()
    np.testing.assert_array_equal(found.content["optimizer"]["state"][0]["exp_avg"], moment)


CONTENT = {
    "args": argparse.Namespace(rate=0.1, steps=[1, 2], deeper=argparse.Namespace(a=1)),
    "simple": types.SimpleNamespace(a="b"),
    "factory": collections.defaultdict(list, {"a": [1]}),
    "ordered": collections.OrderedDict(b=1, a=2),
    "count": collections.Counter("aab"),
    "number": np.float64(3.5),
    "small": np.float32(0.25),
    "whole": np.int64(7),
    "truth": np.bool_(True),
    "array": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "reversed": np.arange(6)[::-1],
    "big": np.arange(3, dtype=">i4"),
    "half": np.ones((2, 2), np.float16),
    "empty": np.zeros((0, 3), np.float32),
    "texts": np.array(["a", "bcd"]),
    "none": None,
    "bytes": b"\x00\xff",
    "tuple": (1, "two", 3.0),
    "set": {1, 2},
    "complex": 1 + 2j,
    "long": 1 << 80,
}


def test_what_trainers_keep_comes_back(tmp_path: Path, protocol: str) -> None:
    found = read_pickled(save(CONTENT, tmp_path / "x.pkl", protocol))
    assert found.left_out == ()
    content = found.content
    assert content["args"] == {"rate": 0.1, "steps": [1, 2], "deeper": {"a": 1}}
    assert content["simple"] == {"a": "b"}
    assert content["factory"] == {"a": [1]}
    assert list(content["ordered"]) == ["b", "a"]
    assert content["count"] == {"a": 2, "b": 1}
    assert sorted(content["set"]) == [1, 2]
    for name in ("number", "small", "whole", "truth", "none", "bytes", "tuple", "complex", "long"):
        assert content[name] == CONTENT[name], name
    for name in ("array", "fortran", "reversed", "big", "half", "empty", "texts"):
        np.testing.assert_array_equal(content[name], CONTENT[name], err_msg=name)
        assert content[name].dtype == CONTENT[name].dtype.newbyteorder("="), name


def test_the_module_names_of_old_and_new_numpy_are_the_same(tmp_path: Path) -> None:
    for module in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        text = pickle.dumps(np.arange(3), protocol=2)
        text = text.replace(b"numpy._core.multiarray", module)
        (tmp_path / "x.pkl").write_bytes(text)
        np.testing.assert_array_equal(read_pickled(tmp_path / "x.pkl").content, np.arange(3))


HOSTILE = {
    "function": Calls(run, "reduce"),
    "eval": Calls(eval, "RAN.append('eval')"),
    "own class": Own(),
    "numpy's reader": Calls(np.load, "/nowhere"),
    "getattr": Calls(getattr, "a", "upper"),
    "type": Calls(type, "X", (), {}),
    "partial": Calls(__import__, "os"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("how", ["zip", "legacy", "protocol0", "protocol2", "protocol5"])
def test_nothing_else_runs_and_everything_else_is_named(
    tmp_path: Path, name: str, how: str
) -> None:
    RAN.clear()
    content = {"tensor": np.ones(2), "other": [HOSTILE[name], 5], "pair": (HOSTILE[name], 6)}
    path = save(content, tmp_path / "x", how)
    RAN.clear()  # Pickling may have run something; reading may not.
    found = read_pickled(path)
    assert not RAN
    np.testing.assert_array_equal(found.content["tensor"], np.ones(2))
    assert found.content["other"] == [5]
    assert found.content["pair"] == (None, 6)
    places = {line.partition(": ")[0] for line in found.left_out}
    assert places == {"other[0]", "pair[0]"}
    names = {op[1] for op in pickletools.genops(pickle.dumps(HOSTILE[name], 2)) if op[1]}
    assert any(str(word).split()[-1] in found.left_out[0] for word in names)


def test_a_known_constructor_with_hostile_arguments_is_refused(tmp_path: Path) -> None:
    class Array(Calls):
        pass

    rebuild = np.arange(3).__reduce__()[0]
    cases: dict[str, Any] = {
        "objects": np.array([{"a": 1}], dtype=object),
        "a class for a shape": Array(rebuild, np.ndarray, (0,), b"b", state=(1, Own(), 1, 0, b"")),
        "too few numbers": Array(
            rebuild, np.ndarray, (0,), b"b", state=(1, (9, 9), np.dtype("f4"), False, b"1234")
        ),
    }
    for name, content in cases.items():
        path = save({"a": content}, tmp_path / "x.pkl", "protocol2")
        with pytest.raises(PickleError, match=r"x\.pkl: "):
            pytest.fail(f"{name}: {read_pickled(path)}")


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    content = {"a": torch.zeros(1).expand(1000, 1000, 1000)}  # gigabytes of a few bytes
    for how in ("zip", "legacy"):
        path = save(content, tmp_path / "x.pt", how)
        with pytest.raises(PickleError, match=r"shape \(1000, 1000, 1000\), but 1 numbers"):
            read_pickled(path)


@pytest.mark.parametrize("how", ["zip", "legacy", "protocol2"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_what_is_cut_off_is_refused_by_name(tmp_path: Path, how: str, share: float) -> None:
    path = save(
        {"a": torch.randn(100) if how != "protocol2" else np.ones(100)}, tmp_path / "x", how
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(PickleError, match=r"x: "):
        read_pickled(path)


def test_a_container_in_itself_is_refused(tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(PickleError, match="containers in containers"):
        read_pickled(save(endless, tmp_path / "x.pkl", "protocol2"))
