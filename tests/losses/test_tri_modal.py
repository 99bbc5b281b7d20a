"""Tri-modal loss: parity with the reference, a float64 oracle, edges and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import memory
from uov_jax import losses
from uov_jax.losses import tri_modal

DATA = Path(__file__).parents[1] / "fixtures"
MASKS_PER_IMAGE = 150


def reference_fixture() -> dict[str, Any]:
    """The measured fixture as arguments of `tri_modal_loss`, with `loss` and `grad`."""
    with np.load(DATA / "tmp_loss.npz") as file:
        stored = {name: file[name] for name in file.files}
    image, mask, word = stored["features"][:, :3].astype(int).T
    slots = stored["superpixels"].shape[0] * MASKS_PER_IMAGE
    superpoint_word = np.full(slots, -1, np.int32)
    embedding = np.zeros((slots, stored["features"].shape[1] - 3), np.float32)
    superpoint_word[image * MASKS_PER_IMAGE + mask + 1] = word
    embedding[image * MASKS_PER_IMAGE + mask + 1] = stored["features"][:, 3:]
    image, row, column = stored["pairing_images"].T
    mask = stored["superpixels"][image, row, column]
    sizes = stored["same_class_sizes"]
    return {
        "point_features": stored["point_features"],
        "pair_voxel": stored["pairing_points"].astype(np.int32),
        "pair_superpoint": np.where(mask > 0, image * MASKS_PER_IMAGE + mask, -1).astype(np.int32),
        "superpoint_word": superpoint_word[None],
        "superpoint_embedding": embedding[None],
        "text_embeddings": stored["text_embedding"],
        "word_group": np.repeat(np.arange(len(sizes)), sizes),
        "loss": float(stored["loss"]),
        "grad": stored["grad"],
    }


def random_batch(
    seed: int, voxels: int = 60, pairs: int = 200, superpoints: int = 23, size: int = 12
) -> dict[str, Any]:
    """A batch with padding, empty superpoints and superpoints without a word."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((voxels, size)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    pair_voxel = rng.integers(0, voxels, pairs).astype(np.int32)
    pair_superpoint = rng.integers(0, superpoints - 5, pairs).astype(np.int32)
    pair_voxel[::7] = -1
    pair_superpoint[::11] = -1
    word = rng.integers(0, 9, superpoints).astype(np.int32)
    word[2::4] = -1
    return {
        "point_features": features,
        "pair_voxel": pair_voxel,
        "pair_superpoint": pair_superpoint,
        "superpoint_word": word[None],
        "superpoint_embedding": rng.standard_normal((1, superpoints, size)).astype(np.float16),
        "text_embeddings": (np.abs(rng.standard_normal((9, size))) + 0.1).astype(np.float32),
        "word_group": np.array([0, 0, 0, 1, 1, 2, 3, 3, 3]),
    }


def loss_of(batch: dict[str, Any], **settings: float) -> Any:
    """`tri_modal_loss` as a function of the point features."""
    targets = losses.soft_text_targets(batch["text_embeddings"], batch["word_group"])
    fixed = [jnp.asarray(batch[name]) for name in ARGUMENTS]

    def loss(features: jax.Array) -> jax.Array:
        return losses.tri_modal_loss(features, *fixed, jnp.asarray(targets), **settings)[0]

    return loss


ARGUMENTS = (
    "pair_voxel",
    "pair_superpoint",
    "superpoint_word",
    "superpoint_embedding",
    "text_embeddings",
)


def oracle(batch: dict[str, Any], features: np.ndarray, temperature: float = 0.07) -> float:
    """The loss of one shard written superpoint by superpoint in float64."""
    (embedding,) = batch["superpoint_embedding"].astype(np.float64)
    text = batch["text_embeddings"].astype(np.float64)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    members: dict[int, list[np.ndarray]] = {}
    for voxel, superpoint in zip(batch["pair_voxel"], batch["pair_superpoint"], strict=True):
        if voxel >= 0 and superpoint >= 0:
            members.setdefault(int(superpoint), []).append(features[voxel].astype(np.float64))
    present = sorted(members)
    image_terms, text_terms = [], []
    for superpoint in present:
        mean = sum(members[superpoint]) / (len(members[superpoint]) + 1e-6)
        scores = {
            other: mean @ embedding[other] / np.linalg.norm(embedding[other]) / temperature
            for other in present
        }
        normalizer = np.log(sum(np.exp(score) for score in scores.values()))
        image_terms.append(normalizer - scores[superpoint])
        word = batch["superpoint_word"][0, superpoint]
        if word < 0:
            continue
        target = np.array(
            [
                0.2 * (other == word)
                + 0.8 * (text[word] @ text[other]) * (batch["word_group"][word] == group)
                for other, group in enumerate(batch["word_group"])
            ]
        )
        logits = text @ mean / temperature
        log_share = logits - np.log(np.exp(logits).sum())
        text_terms.append(-(target / target.sum()) @ log_share)
    return 0.5 * float(np.mean(image_terms)) + 0.5 * float(np.mean(text_terms))


def test_value_and_gradient_equal_the_reference() -> None:
    fixture = reference_fixture()
    value, gradient = jax.value_and_grad(loss_of(fixture))(jnp.asarray(fixture["point_features"]))
    assert abs(float(value) - fixture["loss"]) < 1e-5 * fixture["loss"]
    scale = np.abs(fixture["grad"]).max()
    np.testing.assert_allclose(gradient, fixture["grad"], rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("seed", [0, 1])
def test_value_and_gradient_equal_a_float64_oracle(seed: int) -> None:
    batch = random_batch(seed)
    value, gradient = jax.value_and_grad(loss_of(batch))(jnp.asarray(batch["point_features"]))
    assert float(value) == pytest.approx(oracle(batch, batch["point_features"]), rel=2e-6)
    step = 1e-5
    features = batch["point_features"].astype(np.float64)
    for voxel, column in np.random.default_rng(seed).integers(0, 12, (40, 2)):
        moved = [features.copy(), features.copy()]
        moved[0][voxel, column] += step
        moved[1][voxel, column] -= step
        difference = (oracle(batch, moved[0]) - oracle(batch, moved[1])) / (2 * step)
        assert float(gradient[voxel, column]) == pytest.approx(difference, rel=1e-4, abs=1e-6)


def batch_of_shards(shards: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Shards on one device, and each alone; the last one has no pair."""
    alone = [random_batch(20 + number) for number in range(shards)]
    alone[-1]["pair_voxel"] = np.full_like(alone[-1]["pair_voxel"], -1)
    for one in alone:
        one |= {name: alone[0][name] for name in ("text_embeddings", "word_group")}
    together = dict(alone[0])
    for name in ("point_features", "superpoint_word", "superpoint_embedding"):
        together[name] = np.concatenate([one[name] for one in alone])
    for name, size in (
        ("pair_voxel", len(alone[0]["point_features"])),
        ("pair_superpoint", alone[0]["superpoint_word"].shape[1]),
    ):
        moved = [np.where(one[name] < 0, -1, one[name] + i * size) for i, one in enumerate(alone)]
        together[name] = np.concatenate(moved).astype(np.int32)
    return together, alone


@pytest.mark.parametrize("block", [1024, 16])
def test_the_loss_of_shards_is_the_mean_of_theirs(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value and gradient; a small block cuts every shard into several."""
    monkeypatch.setattr(tri_modal, "ROW_BLOCK", block)
    together, alone = batch_of_shards(3)
    features = jnp.asarray(together["point_features"])
    value, gradient = jax.value_and_grad(loss_of(together))(features)
    parts = [jax.value_and_grad(loss_of(b))(jnp.asarray(b["point_features"])) for b in alone]
    assert [float(part[0]) > 0 for part in parts] == [True, True, False]
    assert float(value) == pytest.approx(sum(float(part[0]) for part in parts) / 3, rel=1e-6)
    expected = np.concatenate([part[1] for part in parts]) / 3
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-7)


def test_row_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = random_batch(3)
    whole = jax.value_and_grad(loss_of(batch))(jnp.asarray(batch["point_features"]))
    monkeypatch.setattr(tri_modal, "ROW_BLOCK", 4)
    blocked = jax.value_and_grad(loss_of(batch))(jnp.asarray(batch["point_features"]))
    np.testing.assert_allclose(whole[0], blocked[0], rtol=1e-6)
    np.testing.assert_allclose(whole[1], blocked[1], atol=1e-7)


def test_padding_and_empty_superpoints_change_nothing() -> None:
    batch = random_batch(4)
    longer = dict(batch)
    longer["pair_voxel"] = np.append(batch["pair_voxel"], [-1, -1, 5]).astype(np.int32)
    longer["pair_superpoint"] = np.append(batch["pair_superpoint"], [-1, 3, -1]).astype(np.int32)
    longer["superpoint_word"] = np.append(batch["superpoint_word"], [[4, -1]], 1).astype(np.int32)
    # An empty superpoint with a large embedding must not enter the denominators.
    extra = np.full((1, 2, 12), 50, np.float16)
    longer["superpoint_embedding"] = np.concatenate([batch["superpoint_embedding"], extra], 1)
    features = jnp.asarray(batch["point_features"])
    value, gradient = jax.value_and_grad(loss_of(batch))(features)
    value_longer, gradient_longer = jax.value_and_grad(loss_of(longer))(features)
    np.testing.assert_allclose(value, value_longer, rtol=1e-6)
    np.testing.assert_allclose(gradient, gradient_longer, atol=1e-7)


@pytest.mark.parametrize("emptied", ["pair_voxel", "pair_superpoint"])
def test_batch_without_pairs_has_no_loss_and_no_gradient(emptied: str) -> None:
    batch = random_batch(5)
    batch[emptied] = np.full_like(batch[emptied], -1)
    value, gradient = jax.value_and_grad(loss_of(batch))(jnp.asarray(batch["point_features"]))
    assert float(value) == 0.0
    assert not np.any(np.asarray(gradient))


def test_one_superpoint_is_its_own_only_key() -> None:
    batch = random_batch(6)
    batch["pair_superpoint"] = np.where(batch["pair_superpoint"] == 3, 3, -1).astype(np.int32)
    fixed = [jnp.asarray(batch[name]) for name in ARGUMENTS[:4]]
    value, metrics = losses.tri_modal_loss(jnp.asarray(batch["point_features"]), *fixed)
    assert float(value) == pytest.approx(0.0, abs=1e-6)
    assert float(metrics["superpoints"]) == 1.0


def test_without_words_only_the_image_term_remains() -> None:
    batch = random_batch(7)
    features = jnp.asarray(batch["point_features"])
    fixed = [jnp.asarray(batch[name]) for name in ARGUMENTS[:4]]
    value, metrics = losses.tri_modal_loss(features, *fixed, image_weight=1.0)
    assert "text_loss" not in metrics
    assert float(value) == pytest.approx(float(metrics["image_loss"]))
    batch["superpoint_word"] = np.full_like(batch["superpoint_word"], -1)
    assert float(loss_of(batch)(features)) == pytest.approx(0.5 * float(metrics["image_loss"]))


def test_weights_scale_the_terms() -> None:
    batch = random_batch(8)
    features = jnp.asarray(batch["point_features"])
    image = float(loss_of(batch, image_weight=1.0, text_weight=0.0)(features))
    text = float(loss_of(batch, image_weight=0.0, text_weight=1.0)(features))
    both = float(loss_of(batch, image_weight=0.3, text_weight=2.0)(features))
    assert both == pytest.approx(0.3 * image + 2.0 * text, rel=1e-6)


def test_more_masks_than_the_reference_allows() -> None:
    batch = random_batch(9, voxels=500, pairs=3000, superpoints=1300)
    value = float(loss_of(batch)(jnp.asarray(batch["point_features"])))
    assert value == pytest.approx(oracle(batch, batch["point_features"]), rel=1e-5)


def test_soft_targets() -> None:
    text = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 3.0]])
    targets = losses.soft_text_targets(text, np.array([0, 0, 1]))
    np.testing.assert_allclose(targets[0], np.array([1.0, 0.48, 0.0]) / 1.48, rtol=1e-6)
    np.testing.assert_allclose(targets[2], [0.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="word 1 is zero"):
        losses.soft_text_targets(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([0, 0]))
    with pytest.raises(ValueError, match=r"\(3, 2\) and word groups \(2,\)"):
        losses.soft_text_targets(text, np.array([0, 0]))


def test_sizes_that_disagree_are_refused() -> None:
    batch = random_batch(10)
    features = jnp.asarray(batch["point_features"])
    fixed = [jnp.asarray(batch[name]) for name in ARGUMENTS]
    with pytest.raises(ValueError, match="mask embeddings have 12 values, point features 11"):
        losses.tri_modal_loss(features[:, :11], *fixed[:4])
    with pytest.raises(ValueError, match="text_targets go together"):
        losses.tri_modal_loss(features, *fixed)
    flat = [*fixed[:2], fixed[2][0], fixed[3]]
    with pytest.raises(ValueError, match=r"words \[23\] for embeddings \[1, 23, 12\]: expected"):
        losses.tri_modal_loss(features, *flat)


def test_memory_at_full_size(capsys: pytest.CaptureFixture[str]) -> None:
    """4 sweeps x 6 cameras x 150 masks: the loss and its gradient in less than 1 GiB."""
    used = memory.tri_modal_loss_bytes(sweeps=4, cameras=6, masks=150).total
    with capsys.disabled():
        print(f"\ntri-modal loss at full size: {used / 2**20:,.0f} MiB above the network")
    assert 2**20 < used < 2**30
