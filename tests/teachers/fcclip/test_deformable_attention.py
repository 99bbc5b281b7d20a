"""Deformable attention against loops over batch, query, head, level and point."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from uov_jax.teachers.fcclip.deformable_attention import DeformableAttention, sample

SIZES = [(2, 3), (4, 5), (7, 6)]
HEADS, LEVELS, POINTS, WIDTH = 2, 3, 4, 3


def bilinear(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """The pixel [D] at (x, y) in pixels, centres at whole numbers; zeros outside."""
    result = np.zeros(image.shape[2])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                share = (1 - abs(y - row)) * (1 - abs(x - column))
                result += share * image[row, column]
    return result


def looped(value: np.ndarray, places: np.ndarray, weights: np.ndarray) -> np.ndarray:
    batch, count = places.shape[:2]
    result = np.zeros((batch, count, HEADS, WIDTH))
    starts = np.cumsum([0] + [height * width for height, width in SIZES])
    for b, n, head, level, point in np.ndindex(batch, count, HEADS, LEVELS, POINTS):
        height, width = SIZES[level]
        pixels = value[b, starts[level] : starts[level + 1], head].reshape(height, width, WIDTH)
        x, y = places[b, n, head, level, point] * (width, height) - 0.5
        result[b, n, head] += weights[b, n, head, level, point] * bilinear(pixels, x, y)
    return result.reshape(batch, count, -1)


def test_samples_are_bilinear_and_zero_outside():
    rng = np.random.default_rng(0)
    total = sum(height * width for height, width in SIZES)
    value = rng.standard_normal((2, total, HEADS, WIDTH))
    places = rng.uniform(-0.4, 1.4, (2, 9, HEADS, LEVELS, POINTS, 2))
    places[0, 0] = 0.0  # a corner, half a pixel off the first centre
    places[0, 1] = 1.0
    weights = rng.standard_normal((2, 9, HEADS, LEVELS, POINTS))
    arrays = [torch.from_numpy(a) for a in (value, places, weights)]
    found = sample(arrays[0], SIZES, arrays[1], arrays[2])
    np.testing.assert_allclose(found, looped(value, places, weights), rtol=1e-9, atol=1e-12)


@pytest.fixture
def module() -> DeformableAttention:
    torch.manual_seed(0)
    module = DeformableAttention(HEADS * WIDTH, LEVELS, HEADS, POINTS).double()
    torch.nn.init.normal_(module.sampling_offsets.weight)  # a pixel or so from the query
    return module.requires_grad_(False)


def test_offsets_are_pixels_of_their_level_and_weights_sum_to_one(module):
    rng = np.random.default_rng(1)
    total = sum(height * width for height, width in SIZES)
    queries = rng.standard_normal((2, 5, HEADS * WIDTH))
    features = rng.standard_normal((2, total, HEADS * WIDTH))
    references = rng.uniform(0, 1, (5, 2))
    found = module(*(torch.from_numpy(a) for a in (queries, references, features)), SIZES)

    def linear(layer: torch.nn.Linear, rows: np.ndarray) -> np.ndarray:
        return rows @ layer.weight.numpy().T + layer.bias.numpy()

    offsets = linear(module.sampling_offsets, queries).reshape(2, 5, HEADS, LEVELS, POINTS, 2)
    places = np.empty_like(offsets)
    for level, (height, width) in enumerate(SIZES):
        moved = offsets[:, :, :, level] / (width, height)
        places[:, :, :, level] = references[None, :, None, None] + moved
    logits = linear(module.attention_weights, queries).reshape(2, 5, HEADS, LEVELS * POINTS)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    value = linear(module.value_proj, features).reshape(2, total, HEADS, WIDTH)
    mixed = looped(value, places, shares.reshape(2, 5, HEADS, LEVELS, POINTS))
    # Extents of levels are exact in float32, all else is float64.
    np.testing.assert_allclose(found, linear(module.output_proj, mixed), rtol=1e-9, atol=1e-12)
