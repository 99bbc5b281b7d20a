"""Window attention against attention pixel by pixel over the whole image."""

from __future__ import annotations

import pytest
import torch

from uov_jax.teachers.catseg.windows import attend, from_windows, shift_mask, to_windows

HEIGHT, WIDTH, WINDOW, HEADS, CHANNELS = 8, 12, 4, 2, 6


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sees(shift: int) -> torch.Tensor:
    """Bool [pixels, pixels]: pixels that share a window of a grid moved by the shift, unwrapped."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    row, column = ((place.flatten() + WINDOW - shift) // WINDOW for place in (rows, columns))
    return (row[:, None] == row) & (column[:, None] == column)


@pytest.mark.parametrize("shift", [0, 2, 1])
def test_windows_are_attention_between_the_pixels_of_one_window(shift):
    query, key, value = (random(2, HEIGHT, WIDTH, CHANNELS, seed=seed) for seed in range(3))
    mask = shift_mask(HEIGHT, WIDTH, WINDOW, shift)[:, None] if shift else None
    windows = (to_windows(x, WINDOW, shift) for x in (query, key, value))
    mixed = attend(*windows, HEADS, mask)
    found = from_windows(mixed, WINDOW, shift, HEIGHT, WIDTH)
    allowed = sees(shift)
    for head in torch.arange(CHANNELS).split(CHANNELS // HEADS):
        q, k, v = (x.flatten(1, 2)[..., head] for x in (query, key, value))
        logits = q @ k.mT / len(head) ** 0.5
        expected = logits.masked_fill(~allowed, -torch.inf).softmax(-1) @ v
        torch.testing.assert_close(found.flatten(1, 2)[..., head], expected, rtol=1e-5, atol=1e-6)


def test_windows_are_put_back_where_they_were():
    pixels = random(2, HEIGHT, WIDTH, CHANNELS)
    windows = to_windows(pixels, WINDOW, 3)
    assert windows.shape == (2 * 6, WINDOW**2, CHANNELS)
    assert torch.equal(from_windows(windows, WINDOW, 3, HEIGHT, WIDTH), pixels)


def test_a_bias_is_added_to_every_window():
    query, key, value = (random(6, 16, CHANNELS, seed=seed) for seed in range(3))
    bias = random(1, HEADS, 16, 16, seed=3)
    whole = attend(query, key, value, HEADS, bias)
    single = torch.cat(
        [
            attend(*parts, HEADS, bias)
            for parts in zip(query.split(1), key.split(1), value.split(1), strict=True)
        ]
    )
    torch.testing.assert_close(whole, single)
    assert not torch.allclose(whole, attend(query, key, value, HEADS, None), atol=0.1)


def test_images_that_windows_do_not_tile_are_refused():
    with pytest.raises(ValueError, match="windows of 5 x 5 do not tile 8 x 12 pixels"):
        to_windows(random(1, HEIGHT, WIDTH, CHANNELS), 5, 0)
