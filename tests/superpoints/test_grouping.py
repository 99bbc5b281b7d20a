"""Superpoints and words of points: against loops over single pairs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from uov_jax.datasets.projection import Pairs, pair_points
from uov_jax.dumps.check import matching_cameras
from uov_jax.dumps.file import CameraMasks, DumpError, TeacherDump
from uov_jax.superpoints.grouping import group_pairs, mask_ids, point_superpoints


def pairs_of(*rows) -> Pairs:
    return Pairs(*(np.array(column, np.int32) for column in zip(*rows, strict=True)))


def two_cameras() -> list[CameraMasks]:
    left = np.array([[0, 1], [2, 3]])
    right = np.array([[1, 1], [0, 2]])
    return [
        CameraMasks("LEFT", "l", left, np.array([10, 11, 12]), np.arange(6).reshape(3, 2)),
        CameraMasks("RIGHT", "r", right, np.array([20, -1]), np.arange(6, 10).reshape(2, 2)),
    ]


# point, camera, row, column
PAIRS = pairs_of(
    (0, 0, 0, 0),  # void
    (1, 0, 0, 1),  # left mask 1
    (2, 0, 1, 1),  # left mask 3
    (1, 1, 0, 0),  # right mask 1
    (2, 1, 1, 0),  # void
    (3, 1, 1, 1),  # right mask 2, no word
    (4, 1, 0, 1),  # right mask 1
)


def test_masks_are_looked_up_at_the_pairs_pixels():
    np.testing.assert_array_equal(mask_ids(PAIRS, two_cameras()), [0, 1, 3, 1, 0, 2, 1])


def test_superpoints_are_the_masks_that_a_pair_hits():
    groups = group_pairs(PAIRS, two_cameras())
    np.testing.assert_array_equal(groups.pair_point, [1, 2, 1, 3, 4])
    np.testing.assert_array_equal(groups.pair_superpoint, [0, 1, 2, 3, 2])
    np.testing.assert_array_equal(groups.word, [10, 12, 20, -1])
    np.testing.assert_array_equal(groups.embedding, [[0, 1], [4, 5], [6, 7], [8, 9]])
    assert groups.embedding.dtype == np.float16
    assert groups.pair_superpoint.dtype == np.int32


def test_a_later_camera_overwrites_but_void_does_not():
    found = point_superpoints(PAIRS, two_cameras(), 6)
    word, seen = found.words(), found.seen
    np.testing.assert_array_equal(word, [-1, 20, 12, -1, 20, -1])
    np.testing.assert_array_equal(seen, [True, True, True, True, True, False])


def test_no_pairs_give_no_superpoints():
    nothing = PAIRS.select(np.zeros(len(PAIRS.point), bool))
    groups = group_pairs(nothing, two_cameras())
    assert [len(column) for column in groups] == [0, 0, 0, 0]
    assert groups.embedding.shape == (0, 2)
    found = point_superpoints(nothing, two_cameras(), 3)
    word, seen = found.words(), found.seen
    assert (word == -1).all()
    assert not seen.any()


def test_any_number_of_masks_keeps_images_apart():
    """The reference numbers superpoints image * 150 + id, so that id 150 joins the next image."""
    many = np.arange(400).reshape(20, 20)
    camera = [CameraMasks(c, c, many, np.arange(399), np.ones((399, 2))) for c in "AB"]
    v, u = np.indices((20, 20)).reshape(2, -1)
    both = Pairs(*(np.tile(c, 2).astype(np.int32) for c in (v, v, v, u)))
    both = both._replace(camera=np.repeat([0, 1], 400).astype(np.int32))
    groups = group_pairs(both, camera)
    np.testing.assert_array_equal(groups.pair_superpoint, np.arange(798))
    np.testing.assert_array_equal(groups.word, np.tile(np.arange(399), 2))


def test_pairs_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="a pair of camera 2, there are 2"):
        group_pairs(PAIRS._replace(camera=PAIRS.camera + np.int32(1)), two_cameras())
    with pytest.raises(ValueError, match="pixel row 0, column 2 leaves the image of 2 x 2"):
        group_pairs(PAIRS._replace(u=PAIRS.u * np.int32(2)), two_cameras())
    with pytest.raises(ValueError, match=r"pairs must have shape \[7\]"):
        group_pairs(PAIRS._replace(u=PAIRS.u[:3]), two_cameras())


def test_real_shapes_agree_with_a_loop(tiny_keyframes, tiny_dumps):
    keyframe = tiny_keyframes[0]
    pairs = pair_points(keyframe.points(), keyframe)
    cameras = matching_cameras(keyframe, tiny_dumps.read(keyframe))
    groups = group_pairs(pairs, cameras)
    images = [camera.masks for camera in cameras]
    expected = [
        (point, camera, images[camera][v, u])
        for point, camera, v, u in zip(*pairs, strict=True)
        if images[camera][v, u]
    ]
    np.testing.assert_array_equal(groups.pair_point, [e[0] for e in expected])
    keys = sorted({e[1:] for e in expected})
    np.testing.assert_array_equal(groups.pair_superpoint, [keys.index(e[1:]) for e in expected])
    np.testing.assert_array_equal(groups.word, [cameras[c].words[i - 1] for c, i in keys])


def test_dumps_of_other_images_are_refused(tiny_keyframes, tiny_dumps):
    keyframe = tiny_keyframes[0]
    dump = tiny_dumps.read(keyframe)

    def replaced(channel, token, masks) -> TeacherDump:
        plain = dump.cameras[0]
        other = CameraMasks(channel, token, masks, plain.words, plain.embeddings)
        return dataclasses.replace(dump, cameras=(other, *dump.cameras[1:]))

    first = dump.cameras[0]
    with pytest.raises(DumpError, match=r"the masks of CAM_FRONT are of the image x, expected"):
        matching_cameras(keyframe, replaced("CAM_FRONT", "x", first.masks))
    with pytest.raises(DumpError, match=r"CAM_FRONT are \(45, 160\) pixels .* \(90, 160\)"):
        matching_cameras(keyframe, replaced("CAM_FRONT", first.token, first.masks[:45]))
    with pytest.raises(DumpError, match="no camera CAM_FRONT"):
        matching_cameras(keyframe, replaced("CAM_TOP", first.token, first.masks))
