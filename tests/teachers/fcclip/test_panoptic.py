"""The map of segments against the official steps, mask by mask at full size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.teachers.recipe import DATA
from uov_jax.teachers.fcclip.panoptic import CHUNK, Segments, best_masks, panoptic_segments

WORDS = 175
THINGS = np.arange(WORDS) < 96


def step_by_step(
    mask_logits: torch.Tensor,
    scores: np.ndarray,
    words: np.ndarray,
    padded: tuple[int, int],
    size: tuple[int, int],
) -> Segments:
    """All masks in memory, painted in turn."""
    whole = torch.nn.functional.interpolate(mask_logits[None], padded, mode="bilinear")[0]
    probability = whole[:, : size[0], : size[1]].sigmoid().numpy()
    kept = np.flatnonzero(words != WORDS)
    winner = (scores[kept, None, None] * probability[kept]).argmax(axis=0)
    masks = np.zeros(size, np.uint16)
    queries: list[int] = []
    stuff: dict[int, int] = {}
    for place, query in enumerate(kept):
        own = probability[query] >= 0.5
        won = winner == place
        mask = own & won
        if not mask.any() or won.sum() / own.sum() < 0.8:
            continue
        if words[query] in stuff:
            masks[mask] = stuff[words[query]]
            continue
        queries.append(query)
        masks[mask] = len(queries)
        if not THINGS[words[query]]:
            stuff[words[query]] = len(queries)
    return Segments(masks, np.array(queries))


def run(mask_logits, scores, words, padded, size) -> Segments:
    scores = torch.from_numpy(np.asarray(scores, np.float32))
    words = torch.from_numpy(np.asarray(words, np.int64))
    return panoptic_segments(mask_logits, scores, words, THINGS, padded, size)


@pytest.fixture(scope="module")
def measured() -> dict[str, np.ndarray]:
    with np.load(DATA / "fcclip_CAM_FRONT.npz") as file:
        return dict(file)


def test_measured_masks_give_the_segments_of_the_official_steps(measured):
    mask_logits = torch.from_numpy(measured["mask_logits_all_stride16"])
    scores, words = measured["scores"], measured["labels"]
    found = run(mask_logits, scores, words, (240, 400), (225, 400))
    expected = step_by_step(mask_logits, scores, words, (240, 400), (225, 400))
    np.testing.assert_array_equal(found.masks, expected.masks)
    np.testing.assert_array_equal(found.queries, expected.queries)
    assert found.masks.dtype == np.uint16
    # The coarse masks are nearly the ones at full size: the same words come out.
    dumped = set(measured["category_ids"].tolist())
    assert len(dumped & set(words[found.queries].tolist())) > len(dumped) / 2


def square(size: int, rows: slice, columns: slice, inside: float = 8.0) -> torch.Tensor:
    logits = torch.full((size, size), -8.0)
    logits[rows, columns] = inside
    return logits


LEFT, RIGHT, ALL = slice(0, 8), slice(8, 16), slice(0, 16)


def test_things_stay_apart_and_stuff_is_painted_into_the_first():
    masks = torch.stack([square(16, ALL, LEFT), square(16, ALL, RIGHT)])
    for word, count in [(3, 2), (120, 1)]:
        found = run(masks, [0.9, 0.8], [word, word], (16, 16), (16, 16))
        assert len(found.queries) == count
        assert (found.masks[:, LEFT] == 1).all()
        assert (found.masks[:, RIGHT] == count).all()


def test_a_mask_that_better_ones_cover_is_left_out():
    covered = [square(16, ALL, slice(0, width)) for width in (3, 4)]
    for top, kept in zip(covered, (True, False), strict=True):
        # 3 of 16 columns leave 81 % of the lower mask, 4 leave 75 %.
        found = run(
            torch.stack([square(16, ALL, ALL), top]), [0.5, 0.9], [1, 2], (16, 16), (16, 16)
        )
        assert (0 in found.queries) == kept
        assert found.masks[0, 0] == len(found.queries)
        assert found.masks[0, 15] == kept


def test_pixels_outside_every_mask_are_void():
    weak = square(16, ALL, LEFT)
    weak[:, RIGHT] = -0.1  # the best there is, but below one half
    found = run(weak[None], [0.9], [5], (16, 16), (16, 16))
    assert (found.masks[:, LEFT] == 1).all()
    assert not found.masks[:, RIGHT].any()


def test_void_queries_take_no_part():
    masks = torch.stack([square(16, ALL, ALL), square(16, ALL, LEFT)])
    found = run(masks, [1.0, 0.1], [WORDS, 7], (16, 16), (16, 16))
    assert found.queries.tolist() == [1]
    nothing = run(masks, [1.0, 1.0], [WORDS, WORDS], (16, 16), (12, 10))
    assert nothing.masks.shape == (12, 10)
    assert not nothing.masks.any()
    assert nothing.queries.shape == (0,)


def test_masks_can_come_in_any_number_at_a_time():
    generator = torch.Generator().manual_seed(0)
    masks = torch.randn(2 * CHUNK + 3, 6, 8, generator=generator) * 3
    scores = torch.rand(len(masks), generator=generator)
    masks[CHUNK + 1], scores[CHUNK + 1] = masks[2], scores[2]  # the first of equal ones wins
    found = best_masks(masks, scores, (24, 32), (22, 30))
    whole = torch.nn.functional.interpolate(masks[None], (24, 32), mode="bilinear")[0]
    probability = whole[:, :22, :30].sigmoid()
    expected = (scores[:, None, None] * probability).numpy().argmax(axis=0)
    np.testing.assert_array_equal(found.number, expected)
    inside = (probability >= 0.5).numpy()
    np.testing.assert_array_equal(found.areas, inside.sum(axis=(1, 2)))
    np.testing.assert_array_equal(
        found.inside, np.take_along_axis(inside, expected[None], axis=0)[0]
    )
