"""Files: whole or not at all, on the disk when they say so, read in spite of hiccups; manifests."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uov_jax import files
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import (
    ManifestFile,
    UnreadableFileError,
    file_sizes,
    read_bytes,
    refuse_empty,
    remove_unfinished,
    replacing,
    write_npz,
    write_text,
)


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_has_its_name_when_it_is_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with replacing(path, durable) as temporary:
        assert temporary.suffix == ".json"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_folder_are_flushed_in_the_right_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def note_sync(number: int) -> None:
        done.append("folder" if Path(f"/dev/fd/{number}").is_dir() else "file")
        sync(number)

    def note_replace(old: Any, new: Any) -> None:
        done.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_text(tmp_path / "a.txt", "a")
    assert done == ["file", "rename", "folder"]
    done.clear()
    with replacing(tmp_path / "b.txt", durable=False) as temporary:
        temporary.write_text("b")
    assert done == ["rename"]


def test_folders_that_cannot_be_flushed_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    write_text(tmp_path / "a.txt", "a")
    assert (tmp_path / "a.txt").read_text() == "a\n"

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "a.txt", "b")
    assert (tmp_path / "a.txt").read_text() == "a\n"


def test_what_killed_writers_left_is_removed_by_its_name(tmp_path: Path) -> None:
    with replacing(tmp_path / "token.npz") as left:
        left.write_bytes(b"half")
        remove_unfinished(tmp_path, {"other.npz", left.name})
        assert left.is_file()
        remove_unfinished(tmp_path, {"token.npz"})
        assert not left.exists()
        left.write_bytes(b"whole")
    remove_unfinished(tmp_path, {"token.npz"})
    assert (tmp_path / "token.npz").read_bytes() == b"whole"


class Hiccups:
    """A `Path.read_bytes` that fails some times first."""

    def __init__(self, number: int, times: int) -> None:
        self.number, self.left, self.calls = number, times, 0

    def __call__(self, path: Path) -> bytes:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise OSError(self.number, os.strerror(self.number))
        return b"content"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_what_passes_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    hiccups = Hiccups(number, files.TRIES - 1)
    monkeypatch.setattr(Path, "read_bytes", lambda path: hiccups(path))
    assert read_bytes(tmp_path / "a", pause=0.0) == b"content"
    assert hiccups.calls == files.TRIES


@pytest.mark.parametrize(
    ("number", "calls"), [(errno.EIO, files.TRIES), (errno.EACCES, 1), (errno.EISDIR, 1)]
)
def test_what_does_not_pass_is_told_from_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, calls: int
) -> None:
    hiccups = Hiccups(number, 99)
    monkeypatch.setattr(Path, "read_bytes", lambda path: hiccups(path))
    with pytest.raises(UnreadableFileError, match=r"a: could not be read.*may be whole"):
        read_bytes(tmp_path / "a", pause=0.0)
    assert hiccups.calls == calls


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "nowhere")


def test_equal_arrays_give_equal_bytes(tmp_path: Path) -> None:
    arrays = {"a": np.arange(5), "b": np.ones((2, 2), np.float16)}
    for name in ("one", "two"):
        write_npz(tmp_path / f"{name}.npz", arrays, stored={"b"})
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["a"], arrays["a"])


@dataclasses.dataclass(frozen=True)
class Facts:
    """A manifest."""

    maker: str
    format_version: int = 2
    settings: dict[str, object] = dataclasses.field(default_factory=dict)


MANIFEST = ManifestFile(
    "things.json", Facts, 2, "things", "make some", "make them again", InputError
)


def test_a_stored_npz_gives_its_bytes_and_refuses_all_else(tmp_path: Path) -> None:
    arrays = {"a": np.arange(200, dtype=np.uint8), "b": np.zeros(0, np.uint8)}
    write_npz(tmp_path / "s.npz", arrays, stored=arrays)
    content = (tmp_path / "s.npz").read_bytes()
    found = files.read_stored_npz(content)
    assert {name: bytes(array) for name, array in found.items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }
    np.savez(tmp_path / "n.npz", **arrays)
    assert files.read_stored_npz((tmp_path / "n.npz").read_bytes()).keys() == arrays.keys()
    for name, wrong in {
        "deflated": {"a": np.zeros(99, np.uint8)},
        "words": {"a": np.zeros(3, np.int32)},
        "matrix": {"a": np.zeros((3, 3), np.uint8)},
    }.items():
        write_npz(tmp_path / "w.npz", wrong, stored=() if name == "deflated" else wrong)
        with pytest.raises(ValueError, match="no stored array|no uint8"):
            files.read_stored_npz((tmp_path / "w.npz").read_bytes())
    for end in range(len(content)):
        with pytest.raises((ValueError, struct.error)):
            files.read_stored_npz(content[:end])
    damaged = bytearray(content)
    damaged[content.index(bytes(range(100)))] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        files.read_stored_npz(bytes(damaged))


def test_a_folder_is_made_once_and_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="things.json: no things here: make some"):
        MANIFEST.read(tmp_path)
    assert not MANIFEST.check(tmp_path, Facts("me"))
    MANIFEST.create(tmp_path, Facts("me"))
    assert MANIFEST.check(tmp_path, Facts("me"))
    MANIFEST.create(tmp_path, Facts("me"))
    assert MANIFEST.read(tmp_path) == Facts("me")
    with pytest.raises(InputError, match=r"holds things of .*me.*, not of .*you.*another folder"):
        MANIFEST.create(tmp_path, Facts("you"))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"every": 1, "cut": 2}, {"every": 1, "cut": 3}, r"settings\.cut = 2, not of 3"),
        ({"every": 1}, {"every": 1, "cut": None}, r"settings\.cut = 'nothing', not of None"),
        ({"every": 1, "cut": 2}, {"every": 1}, r"settings\.cut = 2, not of 'nothing'"),
        ({"of": {"deep": 1}}, {"of": {"deep": 2}}, r"settings\.of\.deep = 1, not of 2"),
    ],
)
def test_the_setting_that_differs_is_named(
    tmp_path: Path, before: dict, after: dict, message: str
) -> None:
    MANIFEST.create(tmp_path, Facts("me", settings=before))
    with pytest.raises(InputError, match=f"holds things of {message}: give another folder"):
        MANIFEST.check(tmp_path, Facts("me", settings=after))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a manifest of things"),
        ("[]", "not a manifest of things"),
        (json.dumps({"maker": "me"}), "not a manifest of things"),
        (json.dumps({"maker": "me", "format_version": 2, "more": 1}), "not a manifest of things"),
        (json.dumps({"maker": "me", "format_version": 3}), "reads 2: update uov_jax"),
        (json.dumps({"maker": "me", "format_version": 1}), "expected 2: make them again"),
        (json.dumps({"maker": "me", "format_version": "x"}), "update uov_jax"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_named(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "things.json").write_text(content)
    with pytest.raises(InputError, match=f"things.json: .*{message}"):
        MANIFEST.read(tmp_path)


def test_sizes_of_files_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "folder").mkdir()
    names = ["empty", "gone", "folder"]
    for size in range(1, 200):
        (tmp_path / f"{size}").write_bytes(bytes(size))
        names.append(f"{size}")
    sizes = file_sizes([tmp_path / name for name in names], "things")
    assert sizes.tolist() == [0, -1, -1, *range(1, 200)]
    assert file_sizes([], "things").shape == (0,)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_file_that_cannot_be_looked_at_is_not_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    hiccups = Hiccups(number, 99)
    monkeypatch.setattr(files, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(files.os, "stat", lambda path: hiccups(path))
    with pytest.raises(UnreadableFileError, match=r"a: could not be read"):
        file_sizes([tmp_path / "a"], "things")


def test_a_look_that_fails_once_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    real, failed = os.stat, []

    def stat(path: Path) -> os.stat_result:
        if not failed:
            failed.append(path)
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path)

    monkeypatch.setattr(files, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(files.os, "stat", stat)
    assert file_sizes([tmp_path / "a", tmp_path / "a" / "b"], "things").tolist() == [3, -1]
    assert failed == [tmp_path / "a"]


def test_empty_files_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abcd"]
    refuse_empty(paths, np.array([1, -1, 7, 2]), "things", "delete them", InputError)
    with pytest.raises(InputError, match="b: an empty file, .* 2 among 4 things: delete them"):
        refuse_empty(paths, np.array([1, 0, 7, 0]), "things", "delete them", InputError)
