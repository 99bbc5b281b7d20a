"""MaskCLIP on a small CLIP: words by the nearest dense feature, regions, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from tests.teachers.test_clip_vision import by_masked_attention
from uov_jax.teachers import TeacherOptions, create_teacher
from uov_jax.teachers.clip_vision import build_clip
from uov_jax.teachers.maskclip import MEAN, STD, MaskClipTeacher
from uov_jax.teachers.weights import WeightsError
from uov_jax.vocabulary import load_vocabulary


@pytest.fixture(scope="module")
def clip() -> torch.nn.Module:
    """CLIP in small: open_clip's own class with few and narrow layers."""
    torch.manual_seed(0)
    tower = {"image_size": 56, "patch_size": 14, "width": 64, "layers": 2}
    text = {"context_length": 77, "vocab_size": 60, "width": 64, "heads": 1, "layers": 1}
    network = open_clip.model.CLIP(12, tower, text, quick_gelu=True).eval()
    for name, parameter in network.visual.named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if "ln_" in name else 0.0, 0.2)
    return network


def picture(height: int = 112, width: int = 168) -> np.ndarray:
    """A patch of 14 pixels is of one colour."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (height // 14, width // 14, 3)).astype(np.uint8)
    return np.kron(small, np.ones((14, 14, 1), np.uint8))


def expected_features(clip: torch.nn.Module, image: np.ndarray) -> torch.Tensor:
    """[12, rows, columns] at the image's own size, by masked attention."""
    pixels = torch.tensor(image).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.inference_mode():
        tokens = by_masked_attention(clip.visual, (pixels - mean) / std, whole_block=False)
    features = F.normalize(tokens[0, 1:], dim=-1)
    return features.T.unflatten(1, (image.shape[0] // 14, image.shape[1] // 14))


def words_of(features: torch.Tensor, number: int = 6) -> np.ndarray:
    """Unit rows that tell patches apart: what some of them have beyond the mean patch."""
    patches = features.flatten(1).T.numpy()
    chosen = np.random.default_rng(1).choice(len(patches), number, replace=False)
    return unit(patches[chosen] - patches.mean(axis=0))


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_words_and_embeddings_are_those_of_the_dense_features(clip):
    image = picture()
    features = expected_features(clip, image)
    text = words_of(features)
    teacher = MaskClipTeacher(clip, text, short_side=112)
    np.testing.assert_allclose(teacher.dense_features(image), features, atol=1e-5)
    (found,) = teacher.segment([image])
    size = image.shape[:2]
    scores = torch.einsum("wc,chv->whv", torch.from_numpy(text), features)
    dense = F.interpolate(torch.cat([scores, features])[None], size=size, mode="bilinear")[0]
    words = dense[:6].argmax(dim=0).numpy()
    assert 3 <= len(found.words) <= 6
    assert (found.words[found.masks.astype(int) - 1] == words).mean() > 0.999
    for number, row in enumerate(found.embeddings, start=1):
        expected = dense[6:, found.masks == number].sum(dim=1)
        np.testing.assert_allclose(row, F.normalize(expected, dim=0), atol=1e-5)


def test_regions_can_be_taken_apart(clip):
    text = words_of(expected_features(clip, picture()))
    whole = MaskClipTeacher(clip, text, short_side=112).segment([picture()])[0]
    parts = MaskClipTeacher(clip, text, short_side=112, connected=True).segment([picture()])[0]
    assert len(parts.words) > len(whole.words)
    np.testing.assert_array_equal(
        parts.words[parts.masks.astype(int) - 1], whole.words[whole.masks.astype(int) - 1]
    )


@pytest.mark.parametrize(
    ("size", "grid"), [((900, 1600), (8, 14)), ((1600, 900), (14, 8)), ((64, 64), (8, 8))]
)
def test_any_image_is_seen_as_whole_patches(clip, size, grid):
    teacher = MaskClipTeacher(clip, np.eye(12, dtype=np.float32), short_side=112)
    features = teacher.dense_features(np.zeros((*size, 3), np.uint8))
    assert features.shape == (12, *grid)
    np.testing.assert_allclose(np.linalg.norm(features, axis=0), 1, rtol=1e-5)


def test_equal_words_are_the_first_of_them(clip):
    text = words_of(expected_features(clip, picture()))[[0, 1, 2, 3, 4, 5, 1, 0]]
    (found,) = MaskClipTeacher(clip, text, short_side=112).segment([picture()])
    assert found.words.max() <= 5


def test_images_of_another_kind_are_refused(clip):
    teacher = MaskClipTeacher(clip, np.eye(12, dtype=np.float32))
    with pytest.raises(ValueError, match=r"expected an RGB image uint8\[H, W, 3\]"):
        teacher.segment([np.zeros((20, 20), np.uint8)])
    with pytest.raises(ValueError, match=r"expected an RGB image uint8\[H, W, 3\]"):
        teacher.dense_features(np.zeros((20, 20, 3)))


def test_missing_weights_are_named_with_where_to_get_them():
    with pytest.raises(FileNotFoundError, match=r"open_clip_model\.safetensors \(1\.71 GB\), .*"):
        create_teacher("maskclip", load_vocabulary(), TeacherOptions())


def test_a_file_of_another_network_is_refused(tmp_path: Path):
    with torch.device("meta"):
        names = list(build_clip().state_dict())
    tensors = {name: torch.zeros(1) for name in names} | {"vocab_size": torch.tensor([49408])}
    save_file(tensors, tmp_path / "small.safetensors")
    message = r"small\.safetensors: tensor 'positional_embedding' has the shape \(1,\), expected"
    with pytest.raises(WeightsError, match=message):
        create_teacher(
            "maskclip", load_vocabulary(), TeacherOptions((tmp_path / "small.safetensors",), "cpu")
        )
