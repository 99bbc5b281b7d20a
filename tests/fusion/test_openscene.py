"""OpenScene's published features, written here as OpenScene writes them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from uov_jax.errors import InputError, MissingFileError
from uov_jax.fusion.openscene import OpenSceneFeatures, read_file
from uov_jax.pickled import PickleError

torch = pytest.importorskip("torch")
POINTS = 50


def features(points: int = POINTS) -> np.ndarray:
    """A feature for every point."""
    return np.random.default_rng(0).normal(size=(points, 6)).astype(np.float16)


def save(path: Path, seen: np.ndarray, *, array: bool = False, **more: object) -> Path:
    """As OpenScene's fusion does: half features of the points of a mask."""
    content = {
        "feat": torch.from_numpy(features()[seen]).half(),
        "mask_full": seen if array else torch.from_numpy(seen),
    }
    torch.save(content | more, path)
    return path


def some(share: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(POINTS) < share


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("legacy_format", [False, True])
def test_one_file(tmp_path, array, legacy_format, monkeypatch):
    mask = some(0.4)
    if legacy_format:  # of torch.save before 1.6
        saved = torch.save
        monkeypatch.setattr(
            torch, "save", lambda *a: saved(*a, _use_new_zipfile_serialization=False)
        )
    save(tmp_path / "scene0000_00.pt", mask, array=array)
    folder = OpenSceneFeatures(tmp_path)
    views, found = folder.read("scene0000_00", POINTS)
    assert views.dtype == np.uint16
    np.testing.assert_array_equal(views, mask)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, features()[mask])
    assert folder.embedding_size(["scene0009_00", "scene0000_00"]) == 6


def test_chunks_are_merged(tmp_path):
    # Each has points of chance; many are in several.
    masks = [some(0.3, seed) for seed in range(5)]
    for number, mask in enumerate(masks):
        save(tmp_path / f"scene0000_00_{number}.pt", mask, array=number == 2)
    save(tmp_path / "scene0000_01_0.pt", some(0.9))
    save(tmp_path / "scene0000_0_0.pt", some(0.9))
    folder = OpenSceneFeatures(tmp_path)
    assert [path.name for path in folder.files("scene0000_00")] == [
        f"scene0000_00_{number}.pt" for number in range(5)
    ]
    views, found = folder.read("scene0000_00", POINTS)
    everything = np.logical_or.reduce(masks)
    assert sum(map(np.sum, masks)) > everything.sum()
    np.testing.assert_array_equal(views, everything)
    np.testing.assert_array_equal(found, features()[everything])
    assert folder.has("scene0000_01")
    assert not folder.has("scene0000")


@pytest.mark.parametrize("rows_as", ["numbers", "bool", "bytes"])
def test_old_files_have_rows_without_a_feature(tmp_path, rows_as):
    chunk = some(0.6)
    known = np.random.default_rng(1).random(chunk.sum()) < 0.5
    mask = {
        "numbers": torch.from_numpy(np.flatnonzero(known)),
        "bool": torch.from_numpy(known),
        "bytes": torch.from_numpy(known.astype(np.uint8)),
    }[rows_as]
    path = save(
        tmp_path / "a.pt", chunk, mask=mask, feat=torch.from_numpy(features()[chunk])[..., None]
    )
    rows, found = read_file(path, POINTS)
    np.testing.assert_array_equal(rows, np.flatnonzero(chunk)[known])
    np.testing.assert_array_equal(found, features()[rows])


def test_features_of_float32_become_half(tmp_path):
    wide = torch.from_numpy(features().astype(np.float32) * 1.0001)
    path = save(tmp_path / "a.pt", some(2), feat=wide)
    np.testing.assert_array_equal(read_file(path, POINTS)[1], wide.half().numpy())


class Harmful:
    """Runs a function where it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('it was run')",))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"feat": Harmful()}, r"it holds feat: .*exec, which is not made here"),
        ({"other": torch.zeros(1)}, "expected feat and mask_full, found feat, mask_full, other"),
        ({"mask": torch.zeros(1), "x": 1}, "expected feat and mask_full, found feat, mask_full, m"),
        ({"feat": torch.zeros(3, 6).half()}, "3 features, but mask_full has 50 points"),
        ({"feat": torch.zeros(6).half()}, r"expected feat half \[V, D\] .* found float16 \[6\]"),
        ({"feat": torch.zeros(50, 6).int()}, r"expected feat half \[V, D\] .* found int32"),
        ({"feat": torch.full((50, 6), float("nan")).half()}, "a feature is not finite"),
        ({"mask_full": torch.full((50,), 2)}, "mask_full is of int64, expected true and false"),
        ({"mask_full": torch.ones(49).bool()}, "of a scene of 49 points, not of 50"),
        ({"mask": torch.full((3,), 50)}, "mask is int64 .* expected rows of the 50 of feat"),
        ({"mask": torch.full((3,), -1)}, "mask is int64 .* expected rows of the 50 of feat"),
        ({"mask": torch.zeros(3)}, "mask is float32 .* expected rows of the 50 of feat"),
    ],
)
def test_anything_else_is_refused_by_name_and_not_run(tmp_path, more, message):
    path = save(tmp_path / "a.pt", some(2), **more)
    with pytest.raises(InputError, match=rf"a\.pt: .*{message}"):
        read_file(path, POINTS)


def test_files_of_other_programs_are_refused(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="expected feat and mask_full, found <class 'list'>"):
        read_file(path, POINTS)
    path.write_bytes(b"PK\3\4")
    with pytest.raises(PickleError, match=r"a\.pt: damaged"):
        read_file(path, POINTS)


def test_chunks_of_different_fusions_are_refused(tmp_path):
    save(tmp_path / "a_0.pt", some(0.8))
    save(tmp_path / "a_1.pt", some(2), feat=torch.from_numpy(features() + np.float16(1)))
    with pytest.raises(InputError, match=r"a_1\.pt: another feature of point \d+ than in the"):
        OpenSceneFeatures(tmp_path).read("a", POINTS)
    save(tmp_path / "a_1.pt", some(2), feat=torch.zeros(50, 5).half())
    with pytest.raises(InputError, match=r"a_1\.pt: features of 5 numbers, 6 in the first file"):
        OpenSceneFeatures(tmp_path).read("a", POINTS)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"no files SCENE\.pt or SCENE_0\.pt here"):
        OpenSceneFeatures(tmp_path)
    for number in (0, 2):
        save(tmp_path / f"a_{number}.pt", some(0.5))
    folder = OpenSceneFeatures(tmp_path)
    with pytest.raises(MissingFileError, match=r"a_1\.pt: missing, though there is a_2\.pt"):
        folder.read("a", POINTS)
    with pytest.raises(MissingFileError, match=r"b\.pt: no features of the scene"):
        folder.read("b", POINTS)
    with pytest.raises(MissingFileError, match=r"of 2 rooms none has features here.* as a_0\.pt"):
        folder.embedding_size(["b", "c"])
