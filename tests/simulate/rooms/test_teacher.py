"""The simulated teacher: its words, its masks, and the mistakes that it makes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from uov_jax.simulate.rooms import words
from uov_jax.simulate.rooms.kinds import CLASS_NAMES, CLASS_OF_KIND
from uov_jax.simulate.rooms.path import camera_poses
from uov_jax.simulate.rooms.room import make_room
from uov_jax.simulate.rooms.teacher import MOST_MASKS, RoomTeacher, TeacherSettings
from uov_jax.simulate.rooms.views import HEIGHT, WIDTH, View, look
from uov_jax.vocabulary import load_vocabulary

ROOMS = (0, 1, 2, 3, 4, 7)


@pytest.fixture(scope="module")
def views() -> dict[int, list[View]]:
    found = {}
    for number in ROOMS:
        room = make_room(31, number)
        poses = camera_poses(room, 6, np.random.default_rng(number))
        found[number] = [look(room, pose) for pose in poses]
    return found


@pytest.fixture(scope="module")
def text() -> np.ndarray:
    return words.text_embeddings(load_vocabulary("scannet"))


def said(
    views: dict[int, list[View]], text: np.ndarray, filtered: bool = False, **changes: float
) -> tuple[np.ndarray, np.ndarray]:
    """True classes and those that the teacher's features are nearest to, of all pixels."""
    truth, found = [], []
    for number, some in views.items():
        teacher = RoomTeacher(31, number, dataclasses.replace(TeacherSettings(), **changes))
        classes = make_room(31, number).classes
        for index, view in enumerate(some):
            masks, rows = teacher.features(view, np.random.default_rng([number, index]))
            scores = rows @ text.T
            if filtered:
                scores[:, [c for c in range(20) if c + 1 not in classes]] = -999
            pixel = masks[
                np.arange(HEIGHT)[:, None] * masks.shape[0] // HEIGHT,
                np.arange(WIDTH) * masks.shape[1] // WIDTH,
            ]
            truth.append(CLASS_OF_KIND[view.kind].ravel())
            found.append(scores.argmax(axis=1)[pixel.astype(int) - 1].ravel() + 1)
    truth, found = np.concatenate(truth), np.concatenate(found)
    return truth[truth > 0], found[truth > 0]


def mean_iou(truth: np.ndarray, found: np.ndarray) -> float:
    scores = []
    for number in np.unique(truth):
        one, other = truth == number, found == number
        scores.append((one & other).sum() / (one | other).sum())
    return float(np.mean(scores))


def test_words_are_arranged_like_clips(text: np.ndarray) -> None:
    assert text.shape == (20, words.EMBEDDING_SIZE)
    assert text.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1.0, atol=1e-6)
    cosines = (text @ text.T)[np.triu_indices(20, 1)]
    assert 0.55 < cosines.min()
    assert cosines.max() < 0.9
    number = CLASS_NAMES.index
    like = text[number("table")] @ text[number("desk")]
    assert like > text[number("table")] @ text[number("toilet")] + 0.1


def test_looks_lean_but_are_not_words(text: np.ndarray) -> None:
    looks, _ = words.looks()
    unit = looks / np.linalg.norm(looks, axis=1, keepdims=True)
    # The gap: looks are nearer to each other than to any word.
    assert (unit @ unit.T).min() > (unit @ text.T).max()
    shares = words.leaning_shares()
    hubs = sum(share for _, share in words.HUBS)
    np.testing.assert_allclose(shares.sum(axis=1), 1 + hubs)
    desk, table = CLASS_NAMES.index("desk"), CLASS_NAMES.index("table")
    assert shares[desk, table] > shares[desk, desk]


def test_masks_keep_to_the_contract(views: dict[int, list[View]]) -> None:
    for number, some in views.items():
        masks, rows = RoomTeacher(31, number).features(some[0], np.random.default_rng(0))
        assert masks.dtype == np.uint16
        assert masks.shape == (60, 80)
        assert rows.dtype == np.float32
        assert rows.shape == (masks.max(), words.EMBEDDING_SIZE)
        assert set(np.unique(masks)) == set(range(1, len(rows) + 1))
        assert len(rows) <= MOST_MASKS
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)


def test_many_small_regions_do_not_exceed_the_masks(views: dict[int, list[View]]) -> None:
    busy = dataclasses.replace(TeacherSettings(), piece=24)
    view = views[1][0]
    masks, rows = RoomTeacher(31, 1, busy).features(view, np.random.default_rng(0))
    assert set(np.unique(masks)) == set(range(1, MOST_MASKS + 1))
    assert len(rows) == MOST_MASKS


def test_it_errs_and_the_classes_of_the_scene_help(
    views: dict[int, list[View]], text: np.ndarray
) -> None:
    plain = mean_iou(*said(views, text))
    filtered = mean_iou(*said(views, text, filtered=True))
    assert 0.1 < plain < 0.6
    assert filtered > plain + 0.03


def test_each_kind_of_mistake_costs(views: dict[int, list[View]], text: np.ndarray) -> None:
    sound = {
        "object_leaning": 0.0,
        "view_leaning": 0.0,
        "object_mistaken": 0.0,
        "view_mistaken": 0.0,
        "context": 0.0,
    }
    base = mean_iou(*said(views, text, patch=4, **sound))
    for changes in ({"patch": 32}, {"object_mistaken": 0.5}, {"view_mistaken": 0.5}):
        worse = mean_iou(*said(views, text, **({"patch": 4} | sound | changes)))
        assert worse < base - 0.02, changes
    # What is left is what looks always lean to: a desk is called a table.
    truth, found = said({2: views[2]}, text, patch=4, **sound)
    desk, table = CLASS_NAMES.index("desk") + 1, CLASS_NAMES.index("table") + 1
    of_desk = truth == desk
    assert of_desk.any()
    assert (found[of_desk] == table).mean() > (found[of_desk] == desk).mean()


def test_a_teacher_is_of_its_mind_about_an_object(views: dict[int, list[View]]) -> None:
    view, generator = views[2][0], np.random.default_rng
    one = RoomTeacher(31, 2).features(view, generator(0))[1]
    teacher = RoomTeacher(31, 2)
    teacher.features(views[2][1], generator(1))  # another view before changes nothing
    np.testing.assert_array_equal(one, teacher.features(view, generator(0))[1])
    other = RoomTeacher(32, 2).features(view, generator(0))[1]
    assert not np.allclose(one, other, atol=1e-3)


def test_the_hash_is_of_the_settings() -> None:
    other = dataclasses.replace(TeacherSettings(), patch=8)
    assert other.hash != TeacherSettings().hash
    assert TeacherSettings().hash == TeacherSettings().hash
