"""The simulated teacher: right where told to be, wrong as often as told to be."""

from __future__ import annotations

import numpy as np
import pytest

from uov_jax.datasets.keyframe import CAMERAS
from uov_jax.simulate.camera import RAY_STEP, View
from uov_jax.simulate.kinds import KIND, KINDS, RAW_OF_KIND
from uov_jax.simulate.teacher import (
    EMBEDDING_SIZE,
    NAME,
    SimulatedTeacher,
    TeacherSettings,
    text_embeddings,
)
from uov_jax.vocabulary import Vocabulary, load_vocabulary

FAULTLESS = TeacherSettings(
    border_shift=0.0,
    cell=RAY_STEP,
    missed_below=0.0,
    missed_always=0.0,
    confusion=0.0,
    piece_confusion=0.0,
    wrong_word=0.0,
    merged=0.0,
    void=0.0,
    embedding_noise=0.0,
    leaning=0.0,
)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return load_vocabulary("nuscenes")


def grid_of(kind: str, rows: int = 9, columns: int = 16, size: int = 50) -> View:
    """A road with squares of one kind, each an object of its own, at full resolution."""
    labels = np.full((rows * size, columns * size), KIND["road"], np.uint8)
    instance = np.zeros(labels.shape, np.int32)
    for row in range(rows):
        for column in range(columns):
            square = np.s_[
                row * size + 8 : row * size + size - 8,
                column * size + 8 : column * size + size - 8,
            ]
            labels[square] = KIND[kind]
            instance[square] = 1 + row * columns + column
    depth = np.full(labels.shape, 10.0, np.float32)
    return View(np.zeros((*labels.shape, 3), np.uint8), labels, instance, depth)


def taken_for(vocabulary: Vocabulary, settings: TeacherSettings, kind: str) -> np.ndarray:
    """Raw label that the middle of each square got; -1 for void."""
    view = grid_of(kind)
    masks = SimulatedTeacher(vocabulary, settings).segment(
        view, "CAM_FRONT", "t", np.random.default_rng(0)
    )
    raw = np.append(-1, vocabulary.word_raw_index[masks.words])
    return raw[masks.masks[50::100, 50::100]].ravel()


def test_a_faultless_teacher_gives_the_truth(vocabulary: Vocabulary) -> None:
    view = grid_of("car", size=25)
    teacher = SimulatedTeacher(vocabulary, FAULTLESS)
    masks = teacher.segment(view, "CAM_FRONT", "token", np.random.default_rng(0))
    assert masks.image_size == (2 * 9 * 25, 2 * 16 * 25)
    raw = np.append(255, vocabulary.word_raw_index[masks.words])[masks.masks]
    np.testing.assert_array_equal(raw[::2, ::2], RAW_OF_KIND[view.kind])
    assert masks.num_masks == 9 * 16 + 1  # one for the road, one for every car
    np.testing.assert_array_equal(masks.masks[::2], masks.masks[1::2])
    text = text_embeddings(vocabulary)
    np.testing.assert_allclose(masks.embeddings, text[masks.words], atol=1e-3)


def test_words_are_synonyms_of_the_kind(vocabulary: Vocabulary) -> None:
    teacher = SimulatedTeacher(vocabulary, FAULTLESS)
    masks = teacher.segment(grid_of("car"), "CAM_FRONT", "t", np.random.default_rng(0))
    words = {vocabulary.words[word] for word in masks.words}
    cars = {
        w for w, raw in zip(vocabulary.words, vocabulary.word_raw_index, strict=True) if raw == 17
    }
    assert cars <= words
    assert words - cars <= set(KINDS[KIND["road"]].words)


def test_things_are_confused_as_often_as_configured(vocabulary: Vocabulary) -> None:
    settings = TeacherSettings(
        **{**vars(FAULTLESS), "confusion": 1.0},
    )
    raw = taken_for(vocabulary, settings, "motorcycle")
    share = (raw == 14).mean()  # bicycles; 20 % are configured, of 144 squares
    assert share == pytest.approx(0.20, abs=0.1)
    assert (raw == 21).mean() == pytest.approx(0.73, abs=0.11)
    assert (taken_for(vocabulary, FAULTLESS, "motorcycle") == 21).all()


def test_small_things_are_missed(vocabulary: Vocabulary) -> None:
    settings = TeacherSettings(**{**vars(FAULTLESS), "missed_below": 4624.0})
    area = (2 * 34) ** 2
    raw = taken_for(vocabulary, settings, "car")
    assert (raw == 24).mean() == pytest.approx(0.9 * np.exp(-area / 4624.0), abs=0.12)


def test_holes_have_the_configured_size(vocabulary: Vocabulary) -> None:
    settings = TeacherSettings(**{**vars(FAULTLESS), "void": 0.1})
    teacher = SimulatedTeacher(vocabulary, settings)
    shares = [
        (teacher.segment(grid_of("car"), "C", "t", np.random.default_rng(i)).masks == 0).mean()
        for i in range(12)
    ]
    assert np.mean(shares) == pytest.approx(0.1, abs=0.05)


def test_borders_move_by_some_pixels(vocabulary: Vocabulary) -> None:
    settings = TeacherSettings(**{**vars(FAULTLESS), "border_shift": 6.0})
    view = grid_of("car")
    truth = np.repeat(np.repeat(RAW_OF_KIND[view.kind], 2, 0), 2, 1)
    teacher = SimulatedTeacher(vocabulary, settings)
    masks = teacher.segment(view, "C", "t", np.random.default_rng(0))
    raw = vocabulary.word_raw_index[masks.words[masks.masks.astype(int) - 1]]
    wrong = (raw != truth).mean()
    outline = 9 * 16 * 4 * 68 / truth.size  # length of all outlines by pixel
    assert 0.2 * 6 * outline < wrong < 1.5 * 6 * outline


def test_same_generator_same_masks(vocabulary: Vocabulary) -> None:
    teacher = SimulatedTeacher(vocabulary)
    one, two, other = (
        teacher.segment(grid_of("bus"), "C", "t", np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(one.masks, two.masks)
    np.testing.assert_array_equal(one.embeddings, two.embeddings)
    assert (one.masks != other.masks).any()


def test_text_embeddings_are_arranged_like_clips(vocabulary: Vocabulary) -> None:
    text = text_embeddings(vocabulary)
    assert text.shape == (175, EMBEDDING_SIZE)
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, atol=1e-6)
    cosine = text @ text.T
    twice = np.array([vocabulary.words.count(word) > 1 for word in vocabulary.words])
    same = vocabulary.word_group[:, None] == vocabulary.word_group
    other = ~same & ~twice[:, None] & ~twice
    within = same & ~np.eye(175, dtype=bool) & ~twice[:, None] & ~twice
    assert 0.6 < cosine[other].mean() < 0.7
    assert 0.8 < cosine[within].mean() < 0.9
    assert cosine[other].max() < cosine[within].min()
    for word in ("scooter", "pavilion"):
        one, two = vocabulary.indices(word)
        np.testing.assert_array_equal(text[one], text[two])


def test_manifest_says_that_it_is_simulated(vocabulary: Vocabulary) -> None:
    manifest = SimulatedTeacher(vocabulary).manifest(1600, 900)
    assert manifest.teacher == NAME == "simulated"
    assert manifest.image_sizes == dict.fromkeys(CAMERAS, (900, 1600))
    assert manifest.vocabulary_hash == vocabulary.hash
    assert manifest.weights_hash == TeacherSettings().hash != FAULTLESS.hash


def test_every_kind_has_words_of_its_own_label(vocabulary: Vocabulary) -> None:
    teacher = SimulatedTeacher(vocabulary)
    for number, kind in enumerate(KINDS):
        assert set(vocabulary.word_raw_index[teacher._words[number]]) == {kind.raw}


def test_another_vocabulary_is_refused(tmp_path) -> None:
    path = tmp_path / "small.json"
    path.write_text(
        '{"eval_classes": ["ignore", "car"], '
        '"groups": [{"raw_index": 17, "eval_class": 1, "words": ["car"]}]}'
    )
    with pytest.raises(ValueError, match="'small': no word for 'sky' \\(raw label 29\\)"):
        SimulatedTeacher(load_vocabulary(path))
