"""Pseudo labels: both formats against loops over single pairs, and files that are refused."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from uov_jax.datasets.keyframe import CAMERAS, LIDAR, Rig
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.datasets.projection import pair_points, project
from uov_jax.dumps.check import matching_cameras
from uov_jax.superpoints.grouping import PointSuperpoints, Superpoints, point_superpoints
from uov_jax.superpoints.labels import (
    MissingPseudoLabelsError,
    PseudoLabelError,
    PseudoLabelFolder,
    PseudoLabelManifest,
    ReferencePseudoLabels,
    evaluation_labels,
    open_pseudo_labels,
    read_reference_labels,
    reference_codes,
)


def labelled(number: np.ndarray, word: np.ndarray) -> PointSuperpoints:
    """Points of superpoints that have these words."""
    nothing = np.zeros(0, np.int32)
    return PointSuperpoints(Superpoints(nothing, nothing, word, nothing), number, number >= 0)


def with_words(points: PointSuperpoints, word: np.ndarray) -> PointSuperpoints:
    return points._replace(groups=points.groups._replace(word=word))


def superpoints_of(keyframe, dumps) -> PointSuperpoints:
    points = keyframe.points()
    cameras = matching_cameras(keyframe, dumps.read(keyframe))
    return point_superpoints(pair_points(points, keyframe), cameras, len(points))


def codes_one_by_one(keyframe, dumps, vocabulary) -> np.ndarray:
    """The reference's algorithm: camera after camera, mask after mask, a number for each hit."""
    points = keyframe.points()
    codes = np.full(len(points), -1, np.int64)
    number = 0
    for view, camera in zip(keyframe.cameras, dumps.read(keyframe).cameras, strict=True):
        found, image = project(points, keyframe, view), camera.masks
        under = np.zeros(len(points), int)
        for point in np.flatnonzero(found.visible):
            column, row = np.round(found.uv[point]).astype(int)
            under[point] = image[row, column]
        for mask in sorted(set(under[found.visible]) - {0}):
            word = camera.words[mask - 1]
            codes[under == mask] = number * 100 + vocabulary.word_raw_index[word]
            number += 1
    return codes


@pytest.fixture
def folder(tmp_path, tiny_dumps, vocabulary) -> PseudoLabelFolder:
    return make_folder(tmp_path / "labels", tiny_dumps, vocabulary)


def make_folder(root, dumps, vocabulary, format="native") -> PseudoLabelFolder:
    manifest = PseudoLabelManifest.of_dumps(dumps, vocabulary, format)
    return PseudoLabelFolder.create(root, manifest, vocabulary)


def test_codes_are_the_references(tiny_keyframes, tiny_dumps, vocabulary):
    for keyframe in tiny_keyframes:
        found = superpoints_of(keyframe, tiny_dumps)
        codes = reference_codes(found, vocabulary)
        assert codes.dtype == np.int32
        np.testing.assert_array_equal(codes, codes_one_by_one(keyframe, tiny_dumps, vocabulary))
        assert (codes == -1).any()
        assert (codes >= 100).any()


@pytest.mark.parametrize("format", ["native", "npy"])
def test_what_is_written_comes_back(tmp_path, tiny_keyframes, tiny_dumps, vocabulary, format):
    folder = make_folder(tmp_path, tiny_dumps, vocabulary, format)
    keyframe = tiny_keyframes[0]
    assert keyframe not in folder
    found = superpoints_of(keyframe, tiny_dumps)
    size = folder.write(keyframe, found)
    assert keyframe in folder
    assert size == folder.path(keyframe).stat().st_size
    codes = codes_one_by_one(keyframe, tiny_dumps, vocabulary)
    expected = np.where(codes >= 0, codes % 100, -1)
    raw = open_pseudo_labels(tmp_path, vocabulary).raw_labels(keyframe, len(codes))
    assert raw.dtype == np.int32
    np.testing.assert_array_equal(raw, expected)
    classes = evaluation_labels(raw, vocabulary)
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(
        classes, [vocabulary.raw_to_eval[label] if label >= 0 else 0 for label in expected]
    )
    assert not list(tmp_path.glob(".*"))


def test_the_npy_is_named_and_coded_as_the_references(
    tmp_path, tiny_keyframes, tiny_dumps, vocabulary
):
    folder = make_folder(tmp_path, tiny_dumps, vocabulary, "npy")
    keyframe = tiny_keyframes[1]
    folder.write(keyframe, superpoints_of(keyframe, tiny_dumps))
    codes = np.load(tmp_path / f"{keyframe.lidar_token}_lidarseg.npy")
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(codes, codes_one_by_one(keyframe, tiny_dumps, vocabulary))
    # The reference writes no manifest.
    (tmp_path / "superpoints.json").unlink()
    plain = open_pseudo_labels(tmp_path, vocabulary)
    assert isinstance(plain, ReferencePseudoLabels)
    assert keyframe in plain
    np.testing.assert_array_equal(
        plain.raw_labels(keyframe, len(codes)), np.where(codes < 0, -1, codes % 100)
    )
    with pytest.raises(MissingPseudoLabelsError, match="1 of 2 keyframes have no pseudo labels"):
        plain.check(tiny_keyframes[:2])


def test_masks_without_a_word_give_no_label(vocabulary):
    found = labelled(np.array([-1, 0, 1, 1], np.int32), np.array([-1, 3], np.int32))
    raw = vocabulary.word_raw_index[3]
    np.testing.assert_array_equal(
        reference_codes(found, vocabulary), [-1, -1, 100 + raw, 100 + raw]
    )


def test_a_real_sweep_takes_little_room(tmp_path, tiny_keyframes, tiny_dumps, vocabulary):
    """34,000 points in runs of about ten along the rings, as masks of objects make them."""
    folder = make_folder(tmp_path, tiny_dumps, vocabulary)
    rng = np.random.default_rng(0)
    number = np.repeat(rng.integers(-1, 90, 3400), 10).astype(np.int32)
    found = labelled(number, np.arange(90, dtype=np.int32))
    assert folder.write(tiny_keyframes[0], found) < 20_000
    np.testing.assert_array_equal(
        folder.raw_labels(tiny_keyframes[0], 34_000),
        np.where(number >= 0, vocabulary.word_raw_index[number], -1),
    )


def test_equal_labels_give_equal_bytes(tmp_path, tiny_keyframes, tiny_dumps, vocabulary):
    found = superpoints_of(tiny_keyframes[0], tiny_dumps)
    contents = []
    for name in ("a", "b"):
        folder = make_folder(tmp_path / name, tiny_dumps, vocabulary)
        folder.write(tiny_keyframes[0], found)
        contents.append(folder.path(tiny_keyframes[0]).read_bytes())
    assert contents[0] == contents[1]


def test_missing_files_say_how_to_make_them(folder, tiny_keyframes):
    with pytest.raises(MissingPseudoLabelsError, match=r"4 of 4 .*scripts/make_superpoints\.py"):
        folder.check(tiny_keyframes)
    with pytest.raises(MissingPseudoLabelsError, match=r"1 of 1 keyframes have no pseudo labels"):
        folder.raw_labels(tiny_keyframes[0], 400)
    with pytest.raises(FileNotFoundError, match=r"no pseudo labels here: make them with"):
        open_pseudo_labels(folder.root.parent, folder.vocabulary)


def test_corrupt_files_are_named(folder, tiny_keyframes, tiny_dumps):
    keyframe = tiny_keyframes[0]
    found = superpoints_of(keyframe, tiny_dumps)
    folder.write(keyframe, found)
    path = folder.path(keyframe)
    whole = path.read_bytes()
    with pytest.raises(PseudoLabelError, match=r"400 labels, but the sweep has 399 points"):
        folder.raw_labels(keyframe, 399)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PseudoLabelError, match=rf"{path.name}: corrupt or truncated pseudo labels"):
        folder.raw_labels(keyframe, 400)
    path.write_bytes(whole[:100] + b"\0" * 40 + whole[140:])
    with pytest.raises(PseudoLabelError, match=rf"{path.name}: "):
        folder.raw_labels(keyframe, 400)
    other = folder.path(tiny_keyframes[1])
    other.write_bytes(whole)
    with pytest.raises(PseudoLabelError, match=rf"{other.name}: written for .*expected"):
        folder.raw_labels(tiny_keyframes[1], 400)


@pytest.mark.parametrize("word", [-2, 175])
def test_words_out_of_range_are_refused(folder, tiny_keyframes, tiny_dumps, word):
    found = superpoints_of(tiny_keyframes[0], tiny_dumps)
    folder.write(tiny_keyframes[0], with_words(found, np.full_like(found.groups.word, word)))
    with pytest.raises(PseudoLabelError, match="superpoints or words out of range"):
        folder.raw_labels(tiny_keyframes[0], 400)


def test_superpoints_out_of_range_are_refused(folder, tiny_keyframes, tiny_dumps):
    found = superpoints_of(tiny_keyframes[0], tiny_dumps)
    folder.write(tiny_keyframes[0], with_words(found, found.groups.word[:2]))
    with pytest.raises(PseudoLabelError, match="out of range: 2 superpoints"):
        folder.raw_labels(tiny_keyframes[0], 400)


def test_a_manifest_of_version_1_is_one_of_nuscenes_rig(
    folder, tiny_keyframes, tiny_dumps, vocabulary
):
    """Its files are read, and gone on with."""
    folder.write(tiny_keyframes[0], superpoints_of(tiny_keyframes[0], tiny_dumps))
    path = folder.root / "superpoints.json"
    content = json.loads(path.read_text())
    assert (content.pop("lidar"), tuple(content.pop("cameras"))) == (LIDAR, CAMERAS)
    path.write_text(json.dumps(content | {"format_version": 1}))
    again = make_folder(folder.root, tiny_dumps, vocabulary)
    again.check(tiny_keyframes[:1])
    assert again.identity() == folder.identity()
    assert (again.labels(tiny_keyframes[0], 400) > 0).any()


def test_labels_of_another_rig_are_refused_by_name(
    folder, tiny_root, tiny_keyframes, tiny_dumps, vocabulary
):
    folder.write(tiny_keyframes[0], superpoints_of(tiny_keyframes[0], tiny_dumps))
    turned = Rig(cameras=CAMERAS[::-1])
    (keyframe, *_) = NuScenesTables(tiny_root, "v1.0-mini", turned).keyframes("mini_train")
    message = (
        f"superpoints.json: labels of LIDAR_TOP with {', '.join(CAMERAS)}, but wanted are those of "
        f"LIDAR_TOP with {', '.join(CAMERAS[::-1])}: make these into another folder"
    )
    with pytest.raises(PseudoLabelError, match=message):
        folder.check([keyframe])
    manifest = PseudoLabelManifest.of_dumps(tiny_dumps, vocabulary, "native", turned)
    with pytest.raises(
        PseudoLabelError, match=r"pseudo labels of cameras = .*: give another folder"
    ):
        PseudoLabelFolder.create(folder.root, manifest, vocabulary)
    assert "cameras" not in folder.identity()
    other = PseudoLabelFolder.create(folder.root.with_name("turned"), manifest, vocabulary)
    assert other.identity()["cameras"] == ", ".join(CAMERAS[::-1])
    # Of two cameras that see a point the later one in the rig's order names it.
    points = superpoints_of(keyframe, tiny_dumps)
    pairs = pair_points(keyframe.points(), keyframe)
    masks = matching_cameras(keyframe, tiny_dumps.read(keyframe))
    assert len(np.unique(pairs.point)) < len(pairs.point)
    last = {}
    for point, camera, v, u in zip(*pairs, strict=True):
        if mask := masks[camera].masks[v, u]:
            last[int(point)] = int(masks[camera].words[mask - 1])
    assert {i: int(word) for i, word in enumerate(points.words()) if word >= 0} == last


def test_more_superpoints_than_a_file_numbers_are_refused(folder, tiny_keyframes):
    most = labelled(np.arange(65_535, dtype=np.int32), np.zeros(65_535, np.int32))
    folder.write(tiny_keyframes[0], most)
    number, _ = folder._read(folder.path(tiny_keyframes[0]), tiny_keyframes[0], 65_535)
    np.testing.assert_array_equal(number, most.number)
    more = labelled(np.arange(65_536, dtype=np.int32), np.zeros(65_536, np.int32))
    with pytest.raises(PseudoLabelError, match="65536 superpoints of the keyframe scene-0061-sam"):
        folder.write(tiny_keyframes[0], more)


def test_nothing_is_unpickled(folder, tiny_keyframes, tmp_path):
    path = folder.path(tiny_keyframes[0])
    with path.open("wb") as file:
        np.savez(file, header=np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(PseudoLabelError, match="corrupt"):
        folder.raw_labels(tiny_keyframes[0], 400)
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(PseudoLabelError, match="corrupt"):
        read_reference_labels(tmp_path / "x.npy", 1)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.array([0.5, 1.0]), "float64 of shape"),
        (np.array([[1, 2]]), r"int64 of shape \(1, 2\)"),
        (np.array([124, 131, 132]), "132 at point 2, expected -1 or"),
        (np.array([124, -2, 5]), "-2 at point 1"),
        (np.array([124, 5]), "2 labels, but the sweep has 3 points"),
    ],
)
def test_codes_that_are_none_are_refused(tmp_path, codes, message):
    np.save(tmp_path / "x.npy", codes)
    with pytest.raises(PseudoLabelError, match=message):
        read_reference_labels(tmp_path / "x.npy", 3)


def test_a_folder_of_another_kind_is_refused(tmp_path, folder, tiny_dumps, vocabulary):
    with pytest.raises(PseudoLabelError, match="give another folder"):
        make_folder(folder.root, tiny_dumps, vocabulary, "npy")
    make_folder(folder.root, tiny_dumps, vocabulary)  # the same is gone on with
    assert "teacher_settings" not in folder.identity()
    changed = dataclasses.replace(tiny_dumps.manifest, settings={"autocast": "bfloat16"})
    unlike = SimpleNamespace(teacher="tiny", manifest=changed)
    with pytest.raises(
        PseudoLabelError, match=r"settings\.autocast = 'nothing', not of 'bfloat16'"
    ):
        make_folder(folder.root, unlike, vocabulary)
    apart = make_folder(tmp_path / "apart", unlike, vocabulary)
    assert apart.identity()["teacher_settings"] == '{"autocast": "bfloat16"}'
    other = dataclasses.replace(vocabulary, hash="0" * 64)
    with pytest.raises(PseudoLabelError, match="made with another vocabulary"):
        PseudoLabelFolder(folder.root, other)
    manifest = folder.root / "superpoints.json"
    content = json.loads(manifest.read_text())
    for changed, message in (
        (json.dumps(content | {"format_version": 3}), "format version 3, this program reads 2"),
        (json.dumps(content | {"colour": 1}), "not a manifest of pseudo labels"),
        ("[", "not a manifest of pseudo labels"),
    ):
        manifest.write_text(changed)
        with pytest.raises(PseudoLabelError, match=message):
            PseudoLabelFolder(folder.root, vocabulary)


def test_the_file_is_a_plain_npz(folder, tiny_keyframes, tiny_dumps):
    folder.write(tiny_keyframes[0], superpoints_of(tiny_keyframes[0], tiny_dumps))
    with zipfile.ZipFile(folder.path(tiny_keyframes[0])) as archive:
        assert sorted(archive.namelist()) == ["header.npy", "superpoint.npy", "word.npy"]
    with np.load(folder.path(tiny_keyframes[0]), allow_pickle=False) as archive:
        header = json.loads(archive["header"].tobytes())
    assert header["teacher"] == "tiny"
    assert header["sweep"] == tiny_keyframes[0].lidar_token
