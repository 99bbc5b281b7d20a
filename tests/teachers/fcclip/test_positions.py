"""Position encoding against the formula, written out."""

from __future__ import annotations

import math

import numpy as np
import torch

from uov_jax.teachers.fcclip.positions import sine_positions


def test_every_number_is_that_of_the_formula():
    height, width, channels = 3, 5, 8
    expected = np.zeros((channels, height, width))
    for half, size in enumerate((height, width)):
        for place in range(size):
            for pair in range(channels // 4):
                period = 10000 ** (2 * (2 * pair) / channels * 1.0)
                angle = (place + 1) / size * 2 * math.pi / period
                channel = half * channels // 2 + 2 * pair
                index = (slice(None), place) if half else (place, slice(None))
                expected[channel][index] = math.sin(angle)
                expected[channel + 1][index] = math.cos(angle)
    found = sine_positions(height, width, channels, torch.device("cpu"))
    # The official code adds 1e-6 to the size, which moves an angle of 2 pi by 2e-6.
    np.testing.assert_allclose(found, expected, atol=4e-6)
