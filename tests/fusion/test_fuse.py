"""Fusion of a room: the published code's features, and the average by its definition."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import DATA
from tests.fusion.rooms import (
    SIZE,
    GridTeacher,
    pixels_by_definition,
    poses,
    teacher_of,
    wall,
    write_frames,
)
from uov_jax.datasets.frames import Frame
from uov_jax.errors import InputError, MissingFileError
from uov_jax.fusion.features import FeatureFolder, FeatureManifest, FeatureWriter, RoomFeatures
from uov_jax.fusion.fuse import FusedRoom, fuse_room, turns_of
from uov_jax.fusion.image_features import FeatureGrid, MaskFeatures
from uov_jax.fusion.views import ViewSettings

VIEWS = ViewSettings(cut=2)


def fused(
    root: Path, coords: np.ndarray, frames: list[Frame], teacher: GridTeacher, **options: object
) -> tuple[FusedRoom, RoomFeatures]:
    """Fuse into a folder and read it again."""
    facts = FeatureManifest(teacher.name, "", teacher.embedding_size, "scannet", "w", "h")
    writer = FeatureWriter(root, facts, np.eye(teacher.embedding_size))
    with writer.open("room") as writing:
        result = fuse_room(coords, frames, teacher, writing, **options)
    assert sorted(path.name for path in root.iterdir()) == [
        "fused.json", "room", "text_embeddings.npz",
    ]  # fmt: skip
    return result, FeatureFolder(root).room("room", len(coords))


def by_definition(
    coords: np.ndarray, frames: list[Frame], teacher: GridTeacher, views: ViewSettings
) -> tuple[np.ndarray, np.ndarray]:
    """int[N] views and float64[N, D] means, one point of one frame after the other."""
    counts = np.zeros(len(coords), int)
    sums = np.zeros((len(coords), teacher.embedding_size))
    for frame in frames:
        depth = None if frame.depth is None else np.asarray(Image.open(frame.depth))
        pixels = pixels_by_definition(coords, frame, depth, views.cut, views.depth_tolerance)
        grid = teacher.grids[frame.name].astype(np.float64)
        for i, (seen, row, column) in enumerate(zip(*pixels, strict=True)):
            if seen:
                counts[i] += 1
                sums[i] += grid[:, row * 6 // SIZE[0], column * 8 // SIZE[1]]
    return counts, sums / np.maximum(counts, 1)[:, None]


def test_features_are_those_of_the_published_code(tmp_path):
    golden = np.load(DATA / "indoor_fusion.npz")
    frames = []
    for number, (pose, depth) in enumerate(zip(golden["poses"], golden["depth_mm"], strict=True)):
        color, file = tmp_path / f"c{number}.png", tmp_path / f"d{number}.png"
        Image.new("RGB", depth.shape[::-1]).save(color)
        Image.fromarray(depth).save(file)
        frames.append(Frame(str(number), color, file, pose, golden["intrinsic"][:3, :3]))
    grids = golden["features_at_eighth"]
    teacher = GridTeacher({str(i): grid for i, grid in enumerate(grids)})
    result, room = fused(tmp_path / "out", golden["xyz"], frames, teacher)
    np.testing.assert_array_equal(room.visible, golden["mask_full"])
    np.testing.assert_array_equal(room.views, golden["seen"].sum(axis=0))
    # One view sees each point here, so that nothing is rounded but once, to half precision.
    np.testing.assert_array_equal(room.features, golden["fused"])
    assert result == FusedRoom(len(golden["xyz"]), len(golden["fused"]), 4, 4)


@pytest.mark.parametrize("depth", [True, False])
@pytest.mark.parametrize("memory", [1 << 30, 4 * 8 * 90])
def test_overlapping_views_are_averaged(tmp_path, depth, memory):
    coords, frames = wall(), write_frames(tmp_path / "room", poses(), depth=depth)
    teacher = teacher_of(frames)
    result, room = fused(tmp_path / "out", coords, frames, teacher, views=VIEWS, memory=memory)
    counts, means = by_definition(coords, frames, teacher, VIEWS)
    assert {0, 1, 2, 3, 4} <= set(counts.tolist())
    np.testing.assert_array_equal(room.views, counts)
    # Sums of five numbers around 1 in float32, then rounded to half precision.
    np.testing.assert_allclose(
        room.features.astype(np.float64), means[counts > 0], rtol=2**-11 + 1e-6, atol=1e-6
    )
    assert result == FusedRoom(400, np.count_nonzero(counts), 5, 5)
    assert turns_of(400, 8, memory) == (1 if memory > 1 << 20 else 5)
    # However many turns: each image is shown to the teacher once.
    assert teacher.asked == ["0", "1", "2", "3", "4"]


def test_results_do_not_depend_on_the_budget(tmp_path):
    coords, frames = wall(), write_frames(tmp_path / "room", poses())
    teacher = teacher_of(frames)
    # Numbers that half precision cannot hold: they are rounded whether or not they are kept.
    teacher.grids = {k: v.astype(np.float32) * np.float32(1.0003) for k, v in teacher.grids.items()}
    for resize in ("nearest", "bilinear"):
        teacher.resize = resize
        found = [
            fused(tmp_path / f"{resize}{at_once}", coords, frames, teacher, views=VIEWS,
                  memory=4 * 8 * at_once)[1]
            for at_once in (400, 399, 7)
        ]  # fmt: skip
        for other in found[1:]:
            np.testing.assert_array_equal(found[0].views, other.views)
            np.testing.assert_array_equal(found[0].features, other.features)


def test_masks_are_kept_for_further_turns_too(tmp_path):
    coords, frames = wall(), write_frames(tmp_path / "room", poses())
    rng = np.random.default_rng(4)

    class Masks(GridTeacher):
        def features(self, frame: Frame, loaded: np.ndarray) -> MaskFeatures:
            self.asked.append(frame.name)
            return MaskFeatures(self.masks[frame.name], loaded)

    teacher = Masks({f.name: rng.normal(size=(8, 8)).astype(np.float16) for f in frames})
    teacher.masks = {f.name: rng.integers(0, 9, (12, 16)).astype(np.uint16) for f in frames}
    whole = fused(tmp_path / "a", coords, frames, teacher, views=VIEWS)[1]
    assert teacher.asked == ["0", "1", "2", "3", "4"]
    turns = fused(tmp_path / "b", coords, frames, teacher, views=VIEWS, memory=4 * 8 * 100)[1]
    assert len(teacher.asked) == 10
    np.testing.assert_array_equal(whole.views, turns.views)
    np.testing.assert_array_equal(whole.features, turns.features)
    # A pixel of no mask counts as no view.
    assert (whole.views.astype(int) < by_definition_views(coords, frames)).any()


def by_definition_views(coords: np.ndarray, frames: list[Frame]) -> np.ndarray:
    grids = {f.name: np.zeros((1, 6, 8)) for f in frames}
    return by_definition(coords, frames, GridTeacher(grids), VIEWS)[0]


def test_a_frame_that_sees_no_point_is_not_shown_to_the_teacher(tmp_path):
    cameras = poses()
    cameras[2] = cameras[2] @ np.diag([-1.0, 1, -1, 1])  # looks away
    frames = write_frames(tmp_path / "room", cameras)
    teacher = teacher_of(frames)
    result, _ = fused(tmp_path / "out", wall(), frames, teacher, views=VIEWS)
    assert teacher.asked == ["0", "1", "3", "4"]
    assert (result.frames, result.used) == (5, 4)


def test_a_room_that_no_view_sees_is_refused_and_nothing_kept(tmp_path):
    frames = write_frames(tmp_path / "room", poses())
    far = wall() + np.float32(100)
    with pytest.raises(InputError, match="room room: no view sees any of its points: are the pos"):
        fused(tmp_path / "out", far, frames, teacher_of(frames))
    assert not (tmp_path / "out" / "room").exists()
    with pytest.raises(InputError, match="room room: no view sees any of its points"):
        fused(tmp_path / "out", wall(), [], teacher_of(frames))
    empty = np.zeros((0, 3), np.float32)
    with pytest.raises(InputError, match="room room: no view sees any of its points"):
        fused(tmp_path / "out", empty, frames, teacher_of(frames))


def test_numbers_that_half_precision_cannot_hold_are_refused(tmp_path):
    frames = write_frames(tmp_path / "room", poses())
    teacher = teacher_of(frames)
    teacher.grids["3"] = np.full((8, 6, 8), 1e5, np.float32)
    with pytest.raises(InputError, match=r"3\.png: the features are not finite"):
        fused(tmp_path / "out", wall(), frames, teacher, views=VIEWS)


def test_what_goes_wrong_names_the_frame(tmp_path):
    frames = write_frames(tmp_path / "room", poses())
    teacher = teacher_of(frames)
    teacher.grids["1"] = np.ones((7, 6, 8), np.float16)
    with pytest.raises(InputError, match=r"1\.png: features of 7 numbers, expected 8"):
        fused(tmp_path / "out", wall(), frames, teacher, views=VIEWS)
    Image.fromarray(np.zeros((5, 32), np.uint16)).save(frames[4].depth)
    teacher = teacher_of(frames)
    with pytest.raises(InputError, match=r"depth/4\.png: depth of 32 x 5 pixels beside colours"):
        fused(tmp_path / "out", wall(), frames, teacher, views=VIEWS)
    frames[4].depth.unlink()
    with pytest.raises(MissingFileError, match=r"depth/4\.png"):
        fused(tmp_path / "out", wall(), frames, teacher, views=VIEWS)
    frames = [dataclasses.replace(frame, depth=None) for frame in frames]
    frames[2].color.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"color/2\.png: corrupt or truncated image"):
        fused(tmp_path / "out", wall(), frames, teacher, views=VIEWS)
    assert not (tmp_path / "out" / "room").exists()


def test_more_frames_than_can_be_counted_are_refused(tmp_path):
    (frame,) = write_frames(tmp_path / "room", poses(1))
    with pytest.raises(InputError, match="65536 frames of one room, expected at most 65535"):
        fused(tmp_path / "out", wall(), 65536 * [frame], teacher_of([frame]))


class Passing(GridTeacher):
    """Makes its grids when asked; all of them together would be large."""

    def load(self, frame: Frame) -> np.ndarray:
        return np.full((64, 40, 50), float(frame.name), np.float16)


def test_memory_does_not_grow_with_the_frames(tmp_path):
    tracemalloc = pytest.importorskip("tracemalloc")
    (frame,) = write_frames(tmp_path / "room", poses(1))
    peaks = []
    for number in (20, 120):
        frames = [dataclasses.replace(frame, name=str(i)) for i in range(number)]
        teacher = Passing({"0": np.zeros((64, 1, 1))})
        tracemalloc.start()
        try:
            fused(tmp_path / str(number), wall(), frames, teacher, views=VIEWS)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    # A grid is 256 kB, and up to six are in memory: a hundred more of them would be 26 MB.
    assert peaks[1] < peaks[0] + 4_000_000


def test_frames_count_once_each_however_long_the_recording(tmp_path):
    (frame,) = write_frames(tmp_path / "room", poses(1), depth=False)
    frames = [dataclasses.replace(frame, name=str(i)) for i in range(300)]
    teacher = Passing({"0": np.zeros((64, 1, 1))})
    _, room = fused(tmp_path / "out", wall(), frames, teacher, views=VIEWS)
    assert set(room.views.tolist()) == {0, 300}
    np.testing.assert_array_equal(room.features, np.float16(149.5))


def test_progress_is_told_of_every_frame(tmp_path):
    coords, frames = wall(), write_frames(tmp_path / "room", poses())
    steps = []
    fused(tmp_path / "out", coords, frames, teacher_of(frames), views=VIEWS,
          memory=4 * 8 * 200, step=lambda: steps.append(1))  # fmt: skip
    assert len(steps) == 2 * len(frames)


def test_what_a_killed_process_kept_of_frames_is_removed_with_its_room(tmp_path):
    coords, frames = wall(), write_frames(tmp_path / "room", poses())
    root, killed = tmp_path / "out", tmp_path / "killed"

    def step() -> None:
        if not killed.exists() and list(root.rglob("frames-*/*")):
            shutil.copytree(root, killed)  # as the disk is at this moment

    fused(root, coords, frames, teacher_of(frames), views=VIEWS, memory=4 * 8 * 200, step=step)
    assert list(killed.rglob("frames-*/*"))
    facts = FeatureFolder(killed).manifest
    FeatureWriter(killed, facts, np.eye(8)).remove_unfinished(["room"])
    assert sorted(path.name for path in killed.iterdir()) == ["fused.json", "text_embeddings.npz"]


def test_the_resize_of_a_grid_is_the_teachers(tmp_path):
    coords, frames = wall(), write_frames(tmp_path / "room", poses())
    teacher = teacher_of(frames)
    nearest = fused(tmp_path / "a", coords, frames, teacher, views=VIEWS)[1]
    teacher.resize = "bilinear"
    bilinear = fused(tmp_path / "b", coords, frames, teacher, views=VIEWS)[1]
    assert isinstance(teacher.features(frames[0], teacher.load(frames[0])), FeatureGrid)
    np.testing.assert_array_equal(nearest.views, bilinear.views)
    assert np.abs(nearest.features - bilinear.features).max() > 0.1
