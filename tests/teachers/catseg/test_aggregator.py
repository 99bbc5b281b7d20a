"""The parts of the cost aggregation against their formulas, word by word and place by place."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.teachers.catseg.made_up import recipe_weights
from uov_jax.teachers.catseg.aggregator import (
    Aggregator,
    ClassAggregation,
    GuidedConvolution,
    GuidedLinear,
    SpatialAggregation,
    linear_attention,
)
from uov_jax.teachers.weights import load_weights


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def aggregator() -> Aggregator:
    """The real one at made-up weights."""
    with torch.device("meta"):
        network = Aggregator()
    load_weights(network, recipe_weights("sem_seg_head.predictor.transformer."), "recipe")
    return network


def arguments(words: int) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    appearance = [
        random(1, channels, side, side, seed=side)
        for channels, side in ((128, 96), (256, 48), (512, 24))
    ]
    return random(768, 24, 24), F.normalize(random(words, 80, 768, seed=1), dim=-1), appearance


def test_guided_layers_are_those_over_the_concatenation():
    linear = GuidedLinear(6, 4, 5)
    x, guidance = random(3, 7, 6), random(7, 4, seed=1)
    expected = nn.Linear.forward(linear, torch.cat([x, guidance.expand(3, 7, 4)], dim=-1))
    torch.testing.assert_close(linear.guided(x, guidance), expected)
    convolution = GuidedConvolution(6, 4, 5)
    maps, image = random(3, 6, 8, 9), random(1, 4, 8, 9, seed=1)
    stacked = torch.cat([maps, image.expand(3, 4, 8, 9)], dim=1)
    expected = nn.Conv2d.forward(convolution, stacked)
    torch.testing.assert_close(convolution.guided(maps, image), expected, rtol=1e-5, atol=1e-6)


def test_linear_attention_weighs_the_values_by_its_kernel():
    query, key, value = (random(2, 5, 3, 4, seed=seed).double() for seed in range(3))
    found = linear_attention(query, key, value)
    assert found.dtype == torch.float32
    for batch in range(2):
        for head in range(3):
            q, k, v = (x[batch, :, head] for x in (query, key, value))
            kernel = (F.elu(q) + 1) @ (F.elu(k) + 1).T
            expected = (kernel / kernel.sum(dim=1, keepdim=True)) @ v
            torch.testing.assert_close(
                found[batch, :, head], expected.float(), rtol=1e-5, atol=1e-5
            )


def test_half_precision_does_not_reach_into_linear_attention():
    query, key, value = (random(2, 5, 3, 4, seed=seed) for seed in range(3))
    expected = linear_attention(query, key, value)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(linear_attention(query, key, value), expected)


def test_words_meet_at_pooled_places():
    torch.manual_seed(0)
    layer = ClassAggregation(width=8, guidance_size=4, heads=2, pooling=2)
    cost, guidance = random(3, 4, 6, 8), random(3, 4, seed=1)
    pooled = torch.zeros(3, 2, 3, 8)
    for row in range(2):
        for column in range(3):
            block = cost[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            words = block.mean(dim=(1, 2))[None]
            words = words + layer.attention(layer.norm1(words), guidance)
            pooled[:, row, column] = (words + layer.MLP(layer.norm2(words)))[0]
    # Corners of the pooled map on the corners of the full one.
    row = torch.linspace(0, 1, 4)
    rows = torch.stack([1 - row, row], dim=1)
    hat = (1 - (torch.linspace(0, 2, 6)[:, None] - torch.arange(3)).abs()).clamp(min=0)
    expected = cost + torch.einsum("ar,bc,wrcd->wabd", rows, hat, pooled)
    torch.testing.assert_close(layer(cost, guidance), expected, rtol=1e-5, atol=1e-5)


def test_places_meet_within_a_word_only():
    torch.manual_seed(0)
    layer = SpatialAggregation(width=8, guidance_size=4, grid=8, heads=2, window=4)
    cost, guidance = random(5, 8, 8, 8), random(1, 8, 8, 4, seed=1)
    together = layer(cost, guidance, 5)
    for word in range(5):
        alone = layer(cost[word : word + 1], guidance, 1)
        torch.testing.assert_close(together[word : word + 1], alone, rtol=1e-4, atol=1e-5)


def test_the_cost_is_the_cosine_of_every_place_and_prompt(aggregator):
    image, text, _ = arguments(2)
    seen: list[torch.Tensor] = []
    handle = aggregator.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    aggregator._embed(3 * image, text, 2)
    handle.remove()
    (cost,) = seen
    assert cost.shape == (2, 80, 24, 24)
    for word, prompt, row, column in ((0, 0, 0, 0), (1, 79, 23, 5), (1, 3, 7, 23)):
        place = image[:, row, column]
        expected = (place @ text[word, prompt]) / place.norm()
        assert math.isclose(cost[word, prompt, row, column], expected, abs_tol=1e-6)


def test_memory_is_traded_without_changing_the_logits(aggregator):
    image, text, appearance = arguments(5)
    together = aggregator(image, text, appearance, 5)
    assert together.shape == (5, 96, 96)
    in_turn = aggregator(image, text, appearance, 2)
    torch.testing.assert_close(in_turn, together, rtol=1e-4, atol=1e-4)


def test_half_precision_gives_nearly_the_same_logits(aggregator):
    image, text, appearance = arguments(3)
    expected = aggregator(image, text, appearance, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = aggregator(image, text, appearance, 3)
    # Eight bits of mantissa through some fifty layers.
    error = (found - expected).square().mean().sqrt() / expected.std()
    assert 1e-4 < error < 0.1


def test_costs_and_decoder_are_in_float32_under_half_precision(aggregator):
    image, text, appearance = arguments(2)
    seen: list[torch.Tensor] = []
    handle = aggregator.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    cost, guidance = random(2, 24, 24, 128), [random(1, 32, 48, 48), random(1, 16, 96, 96)]
    logits = aggregator._decode(cost, guidance)
    aggregator._embed(image, text, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(aggregator._decode(cost, guidance), logits)
        assert aggregator._embed(image, text, 2).dtype == torch.float32
        assert aggregator._decode(cost, [image.bfloat16() for image in guidance]).dtype == (
            torch.float32
        )
    handle.remove()
    assert torch.equal(*seen)
