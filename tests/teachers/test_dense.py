"""Teachers as fusion asks them: the same features, and words in the prompts of the field."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from uov_jax.datasets.frames import Frame
from uov_jax.errors import InputError
from uov_jax.fusion.image_features import FeatureGrid, MaskFeatures
from uov_jax.fusion.prompts import BARE_PROMPT, prompted
from uov_jax.teachers import ImageMasks, create_teacher
from uov_jax.teachers.dense import DenseTeacher
from uov_jax.teachers.maskclip import MaskClipTeacher
from uov_jax.teachers.text import encode_prompts
from uov_jax.vocabulary import load_vocabulary

WORDS = ("wall", "shower curtain", "other")


@pytest.fixture(scope="module")
def clip() -> torch.nn.Module:
    """CLIP in small, which reads all of CLIP's tokens."""
    torch.manual_seed(0)
    tower = {"image_size": 56, "patch_size": 14, "width": 64, "layers": 2}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    network = open_clip.model.CLIP(12, tower, text, quick_gelu=True).eval()
    network.attn_mask = None
    return network


@pytest.fixture
def frame(tmp_path: Path) -> Frame:
    pixels = np.random.default_rng(0).integers(0, 256, (56, 84, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.png")
    return Frame("0", tmp_path / "0.png", None, np.eye(4), np.eye(3))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_maskclips_patches_are_a_grid(clip, frame):
    inner = MaskClipTeacher(clip, np.eye(12, dtype=np.float32), weights_hash="w", short_side=56)
    teacher = DenseTeacher(inner)
    assert (teacher.name, teacher.weights_hash, teacher.embedding_size) == ("maskclip", "w", 768)
    found = teacher.features(frame, teacher.load(frame))
    assert isinstance(found, FeatureGrid)
    assert found.resize == "bilinear"
    np.testing.assert_array_equal(
        found.planes, inner.dense_features(np.asarray(Image.open(frame.color)))
    )


class Halves:
    """Says that the left half is one mask and the right one another."""

    name, weights_hash, embedding_size, settings = "san", "w", 12, {"autocast": "on"}
    text_embeddings = np.eye(12, dtype=np.float32)
    masks_per_image, mask_bytes = 2, None

    def segment(self, images):
        assert [image.shape for image in images] == [(56, 84, 3)]
        masks = np.ones(images[0].shape[:2], np.uint16)
        masks[:, 42:] = 2
        return [ImageMasks(masks, np.array([0, 1], np.int32), np.eye(12, dtype=np.float32)[:2])]


def test_masks_are_masks(frame):
    teacher = DenseTeacher(Halves())
    assert teacher.settings == {"autocast": "on"}
    found = teacher.features(frame, teacher.load(frame))
    assert isinstance(found, MaskFeatures)
    assert found.masks[0, [0, -1]].tolist() == [1, 2]
    np.testing.assert_array_equal(found.embeddings, np.eye(12)[:2])


@pytest.mark.parametrize(
    ("options", "prompts"),
    [
        ((), ["a wall in a scene", "a shower curtain in a scene", "other"]),
        ((BARE_PROMPT,), ["wall", "shower curtain", "other"]),
        (("my {}!",), ["my wall!", "my shower curtain!", "other"]),
    ],
)
def test_words_are_embedded_in_their_prompts(clip, options, prompts):
    inner = MaskClipTeacher(clip, np.eye(12, dtype=np.float32), weights_hash="w")
    found = DenseTeacher(inner).text_embeddings(WORDS, *options)
    rows = encode_prompts(clip, prompts).numpy()
    np.testing.assert_allclose(found, rows / np.linalg.norm(rows, axis=1, keepdims=True), rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("prompt", ["a scene", "{} and {}", ""])
def test_a_prompt_without_place_for_the_word_is_refused(prompt):
    with pytest.raises(InputError, match="must have one {} where the word goes"):
        prompted(WORDS, prompt)


def test_a_teacher_without_words_is_refused():
    with pytest.raises(InputError, match="the teacher 'slic' has no words, so that nothing could"):
        DenseTeacher(create_teacher("slic", load_vocabulary("scannet")))
