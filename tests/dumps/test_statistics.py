"""The report on dumps, against numbers counted one by one, and its pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.tiny_dataset import HEIGHT, WIDTH, write_dataset
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.nuscenes import read_lidarseg, true_classes
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.datasets.projection import pair_points
from uov_jax.dumps.check import matching_cameras
from uov_jax.dumps.file import CameraMasks, TeacherDump
from uov_jax.dumps.statistics import DumpStatistics
from uov_jax.pictures.masks import PANEL, draw_masks
from uov_jax.superpoints.grouping import point_superpoints
from uov_jax.vocabulary import Vocabulary


def add(statistics: DumpStatistics, keyframe: Keyframe, dump: TeacherDump) -> None:
    """Count a keyframe as the report does."""
    sweep, cameras = keyframe.points(), matching_cameras(keyframe, dump)
    points = point_superpoints(pair_points(sweep, keyframe), cameras, len(sweep))
    truth = true_classes(keyframe, len(sweep), statistics.vocabulary)
    groups = points.groups
    statistics.add(
        cameras, points.words(), points.seen, groups.pair_point, groups.pair_superpoint, truth
    )


@pytest.fixture(scope="module")
def statistics(tiny_keyframes, tiny_dumps, vocabulary) -> DumpStatistics:
    statistics = DumpStatistics(vocabulary)
    for keyframe in tiny_keyframes:
        add(statistics, keyframe, tiny_dumps.read(keyframe))
    return statistics


def counted(keyframe: Keyframe, dump: TeacherDump, vocabulary: Vocabulary) -> dict[str, int]:
    """The same sums, point by point."""
    sweep = keyframe.points()
    truth = vocabulary.raw_to_eval[read_lidarseg(keyframe.lidarseg_path, len(sweep))]
    pairs = pair_points(sweep, keyframe)
    words: dict[int, int] = {}
    members: dict[tuple[int, int], list[int]] = {}
    seen = set()
    for point, camera, v, u in zip(*pairs, strict=True):
        seen.add(int(point))
        mask = int(dump.cameras[camera].masks[v, u])
        if mask:
            words[int(point)] = int(dump.cameras[camera].words[mask - 1])
            if truth[point]:
                members.setdefault((int(camera), mask), []).append(int(truth[point]))
    judged = {point: word for point, word in words.items() if truth[point]}
    return {
        "points": len(sweep),
        "seen_points": len(seen),
        "named_points": len(words),
        "labelled_superpoints": len(members),
        "pair_points": sum(map(len, members.values())),
        "pure_pairs": sum(int(np.bincount(classes).max()) for classes in members.values()),
        "judged_points": len(judged),
        "right_points": sum(
            int(vocabulary.word_eval_class[word] == truth[point]) for point, word in judged.items()
        ),
    }


def test_sums_are_those_counted_point_by_point(statistics, tiny_keyframes, tiny_dumps, vocabulary):
    expected = [counted(k, tiny_dumps.read(k), vocabulary) for k in tiny_keyframes]
    for name in expected[0]:
        assert getattr(statistics, name) == sum(one[name] for one in expected), name
    assert 0 < statistics.pure_pairs < statistics.pair_points
    assert 0 < statistics.right_points < statistics.judged_points


def test_areas_and_masks_are_those_of_the_images(statistics, tiny_keyframes, tiny_dumps):
    cameras = [c for k in tiny_keyframes for c in tiny_dumps.read(k).cameras]
    assert (statistics.keyframes, statistics.images) == (4, 24)
    assert statistics.masks == [4] * 24
    assert statistics.pixels == 24 * HEIGHT * WIDTH
    assert statistics.void_pixels == sum(int((c.masks == 0).sum()) for c in cameras)
    assert statistics.word_pixels.sum() == statistics.pixels - statistics.void_pixels
    word = int(cameras[0].words[0])
    of_word = [int(np.isin(c.masks, np.flatnonzero(c.words == word) + 1).sum()) for c in cameras]
    assert statistics.word_pixels[word] == sum(of_word)
    assert statistics.word_masks.sum() == 24 * 4
    assert statistics.word_points.sum() == statistics.named_points


def test_perfect_masks_are_pure_and_right(tiny_keyframes, vocabulary):
    """One mask per class, painted around the very pixels that points of the class fall on."""
    keyframe = tiny_keyframes[0]
    sweep = keyframe.points()
    truth = vocabulary.raw_to_eval[read_lidarseg(keyframe.lidarseg_path, len(sweep))]
    pairs = pair_points(sweep, keyframe)
    cameras = []
    for number, view in enumerate(keyframe.cameras):
        own = pairs.select(pairs.camera == number)
        # Of points that share a pixel, only the class of the last can be painted.
        masks = np.zeros((HEIGHT, WIDTH), np.uint16)
        masks[own.v, own.u] = truth[own.point]
        words = [int(vocabulary.words_of_class(c)[0]) for c in range(1, 17)]
        cameras.append(CameraMasks(view.channel, view.token, masks, words, np.ones((16, 4))))
    dump = TeacherDump("tiny", "", vocabulary.hash, keyframe.token, tuple(cameras))
    statistics = DumpStatistics(vocabulary)
    add(statistics, keyframe, dump)
    assert statistics.pure_pairs > 0.97 * statistics.pair_points
    assert statistics.right_points > 0.97 * statistics.judged_points


def test_a_teacher_without_words_and_data_without_labels(tmp_path, vocabulary):
    root = write_dataset(tmp_path, keyframes=1, lidarseg=False)
    (keyframe,) = NuScenesTables(root, "v1.0-mini").keyframes("mini_train")
    masks = np.ones((HEIGHT, WIDTH), np.uint16)
    cameras = tuple(
        CameraMasks(view.channel, view.token, masks, [-1], np.ones((1, 4)))
        for view in keyframe.cameras
    )
    statistics = DumpStatistics(vocabulary)
    add(statistics, keyframe, TeacherDump("tiny", "", "", keyframe.token, cameras))
    lines = statistics.lines()
    assert "masks per image: 1.0 on average, 1 in the median, 1 to 1" in lines
    assert "pixels without a mask: 0.0 %" in lines
    assert not [line for line in lines if "purity" in line or "word" in line]
    assert statistics.named_points == statistics.seen_points > 0


def test_masks_are_drawn_over_the_six_images(tmp_path, tiny_keyframes, tiny_dumps, vocabulary):
    path = tmp_path / "masks.jpg"
    draw_masks(tiny_keyframes[0], tiny_dumps.read(tiny_keyframes[0]), vocabulary, path)
    with Image.open(path) as image:
        assert image.size == (3 * PANEL[0] + 12, 2 * PANEL[1] + 6)
        pixels = np.asarray(image).astype(int)
    assert [p.name for p in tmp_path.iterdir()] == ["masks.jpg"]
    # The colour of a class: CAM_FRONT is in the middle of the upper row, its second mask to the
    # left of its middle.
    camera = tiny_dumps.read(tiny_keyframes[0]).camera("CAM_FRONT")
    with Image.open(tiny_keyframes[0].cameras[0].path) as image:
        plain = np.asarray(image.convert("RGB").resize(PANEL)).astype(int)
    panel = pixels[: PANEL[1], PANEL[0] + 6 : 2 * PANEL[0] + 6]
    for mask in range(1, 5):
        eval_class = vocabulary.word_eval_class[camera.words[mask - 1]]
        if eval_class == 0:
            continue
        columns = slice((mask - 1) * 200 + 20, mask * 200 - 20)
        expected = (plain[300:, columns] + vocabulary.colors[eval_class].astype(int)) / 2
        found = panel[300:, columns].mean((0, 1))
        # Void speckles keep the image's own colour, and borders around them are white.
        np.testing.assert_allclose(found, expected.mean((0, 1)), atol=45)
