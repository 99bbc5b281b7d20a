"""Contents of files: what is whole comes back, and nothing takes memory that it does not fill."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fuzz.rule import frugal
from uov_jax.contents import map_npy, parse_facts, parse_json, parse_npy, parse_npz, unzip
from uov_jax.files import DAMAGE

MEGABYTES = 2**20


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_that_claims(header: str) -> bytes:
    """A .npy file of this header and 64 bytes."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64)


def zipped(**files: bytes) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return whole.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
        np.zeros((0, 3), np.int8),
        np.array(5),
        np.array("text"),
        np.arange(3, dtype=">i2"),
        np.zeros(2, [("a", "u1"), ("b", "<f8")]),
    ],
    ids=str,
)
def test_arrays_come_back(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(npy(array))
    for found in (parse_npy(npy(array)), map_npy(path)):
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
    assert not array.size or not map_npy(path).flags.writeable
    (again,) = parse_npz(zipped(**{"a.npy": npy(array)})).values()
    assert again.shape == array.shape
    assert again.flags.writeable  # as np.load gives them
    np.testing.assert_array_equal(again, array)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        npy(np.arange(100))[:-1],
        npy_that_claims("{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,), }"),
        npy_that_claims("{'descr': '|u1', 'fortran_order': False, 'shape': (8589934592,), }"),
        npy_that_claims("{'descr': '|u1', 'fortran_order': False, 'shape': (-1,), }"),
        npy_that_claims("{'descr': '|O', 'fortran_order': False, 'shape': (8,), }"),
        npy_that_claims("{'descr': '|S0', 'fortran_order': False, 'shape': (8,), }"),
        npy_that_claims("{'descr': '|u1', 'fortran_order': False, 'shape': (0, 2**62), }"),
        npy_that_claims("{'descr': '|u1', 'fortran_order': False, 'shape': " + "(" * 90),
        b"\x93NUMPY\x03" + npy(np.arange(3))[7:],
        b"\x93NUMPY\x02\0" + (2**30).to_bytes(4, "little") + bytes(100),
        zipped(**{"a.npy": npy(np.arange(3))}),
    ],
)
def test_what_is_no_array_is_damage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with frugal(MEGABYTES):
        with pytest.raises(DAMAGE):
            parse_npy(content)
        with pytest.raises(DAMAGE):
            map_npy(tmp_path / "a.npy")


def test_an_archive_gives_what_is_wanted_and_no_more_than_that() -> None:
    content = zipped(**{"a.npy": npy(np.arange(3)), "b.npy": npy(np.arange(4)), "c": b"text"})
    assert list(parse_npz(content, ("b", "nothing"))) == ["b"]
    with pytest.raises(DAMAGE):
        parse_npz(content)  # c is no array
    size = len(npy(np.arange(3)))
    assert list(parse_npz(content, ("a",), most=size)) == ["a"]
    with pytest.raises(ValueError, match="expected at most"):
        parse_npz(content, ("a", "b"), most=2 * size)
    bomb = zipped(**{"a.npy": npy(np.zeros(100 * MEGABYTES, np.uint8))})
    assert len(bomb) < MEGABYTES
    too_large = "would be 104,857,728 bytes, expected at most 1,048,576"
    with frugal(4 * MEGABYTES), pytest.raises(ValueError, match=too_large):
        parse_npz(bomb, most=MEGABYTES)


def test_an_archive_that_lies_about_its_sizes_is_damage() -> None:
    name, true = b"a.npy", 100 * MEGABYTES
    bomb = zipped(**{name.decode(): bytes(true)})
    lying = bomb.replace(true.to_bytes(4, "little"), (64).to_bytes(4, "little"))
    assert lying != bomb
    with frugal(4 * MEGABYTES), zipfile.ZipFile(io.BytesIO(lying)) as archive:
        with pytest.raises(DAMAGE):
            unzip(archive, "a.npy")


def test_other_compressions_are_refused() -> None:
    # Their decoders take the memory that the file says.
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"text")
    with zipfile.ZipFile(whole) as archive, pytest.raises(ValueError, match="compressed in a way"):
        unzip(archive, "a")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, b"\xff", '{"a": 1' + "0" * 5000 + "}"])
def test_what_is_no_json_is_one_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # Python's own words
        parse_json(text)


@dataclasses.dataclass(frozen=True)
class Facts:
    """As manifests have them."""

    name: str
    number: int
    sizes: dict[str, tuple[int, int]]
    classes: tuple[str, ...] | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


def test_facts_come_back() -> None:
    facts = Facts("a", 3, {"CAM": (4, 5)}, ("x", "y"), {"a": [1, {"b": None}]})
    assert parse_facts(Facts, json.loads(json.dumps(dataclasses.asdict(facts)))) == facts
    assert parse_facts(Facts, {"name": "a", "number": 3, "sizes": {}}) == Facts("a", 3, {})


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.pop("name"),
        lambda facts: facts.update(name=3),
        lambda facts: facts.update(number="3"),
        lambda facts: facts.update(number=float("inf")),
        lambda facts: facts.update(sizes={"CAM": [4]}),
        lambda facts: facts.update(classes="xy"),
        lambda facts: facts.update(other=1),
    ],
)
def test_facts_of_other_types_are_refused(change: Callable[[dict[str, Any]], object]) -> None:
    facts: dict[str, Any] = {"name": "a", "number": 3, "sizes": {"CAM": [4, 5]}}
    assert parse_facts(Facts, dict(facts)).number == 3
    change(facts)
    with pytest.raises(ValueError, match=r"Expected|missing required|expected an object"):
        parse_facts(Facts, facts)
    with pytest.raises(ValueError, match="expected an object with the fields classes, name"):
        parse_facts(Facts, [facts])
