"""MaskCLIP (arXiv 2112.01071): words of pixels from CLIP's own dense features, without training.

It stands in for OpenSeg, whose features 3DSS-VLG and OpenScene use: both live in the text space of
CLIP ViT-L/14@336.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from uov_jax.teachers import clip_vision
from uov_jax.teachers.regions import Resizing, best_words, segment_by_word
from uov_jax.teachers.runtime import autocast_setting, choose_device, mixed_precision
from uov_jax.teachers.teacher import ImageMasks, TeacherOptions, require_rgb, unusual
from uov_jax.teachers.text import IMAGENET_TEMPLATES, first_of_equal_rows, word_embeddings
from uov_jax.teachers.weights import (
    OfficialFile,
    load_weights,
    read_tensors,
    require_files,
    weights_hash,
)
from uov_jax.vocabulary import Vocabulary

# OpenAI's own file is a TorchScript program, which would have to be run to be read.
OFFICIAL = (
    OfficialFile(
        "open_clip_model.safetensors",
        "https://huggingface.co/timm/vit_large_patch14_clip_336.openai",
        1.71e9,
    ),
)
# What OpenAI's state_dict holds beside the network.
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")
SHORT_SIDE = 448
WORDS_AT_ONCE = 16
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class MaskClipTeacher:
    """The most similar word of every pixel, of CLIP's dense features resized to the image.

    Attributes:
        short_side: the image's shorter side as CLIP sees it, in pixels.
        connected: a mask for every connected region instead of one for every word.

    """

    name = "maskclip"
    embedding_size = clip_vision.EMBEDDING_SIZE
    masks_per_image = 60
    mask_bytes: int | None = None

    def __init__(
        self,
        clip: nn.Module,
        text: np.ndarray,
        *,
        weights_hash: str = "",
        device: torch.device | None = None,
        autocast: bool = False,
        short_side: int = SHORT_SIDE,
        connected: bool = False,
    ) -> None:
        """Take a CLIP with its weights, and float32[words, 768], a unit row for every word."""
        self.weights_hash = weights_hash
        self.text_embeddings = text
        self.short_side = short_side
        self.connected = connected
        self._device = device or torch.device("cpu")
        self._autocast = autocast
        self.settings = unusual(autocast=autocast and autocast_setting(self._device))
        self._clip = clip.to(self._device)
        self._visual = self._clip.visual
        self._first_of = first_of_equal_rows(text)
        self._text = torch.from_numpy(text).to(self._device)

    @property
    def text_tower(self) -> Any:
        """CLIP's text tower, in whose space the embeddings are; see `text.encode_prompts`."""
        return self._clip

    def segment(self, images: Sequence[np.ndarray]) -> list[ImageMasks]:
        """Segment RGB images uint8[H, W, 3] of one size; every pixel gets a word.

        Raises:
            InputError: an image is of another kind, or they differ in size.

        """
        require_rgb(images)
        return [self._segment(image) for image in images]

    @torch.inference_mode()
    def dense_features(self, image: np.ndarray) -> np.ndarray:
        """float32[768, rows, columns], a unit vector for every patch of an RGB image uint8.

        Raises:
            InputError: the image is of another kind.

        """
        require_rgb([image])
        return self._features(image).cpu().numpy()

    @torch.inference_mode()
    def _segment(self, image: np.ndarray) -> ImageMasks:
        features = self._features(image)
        scores = torch.einsum("wc,chv->whv", self._text, features)
        size = (image.shape[0], image.shape[1])
        resizing = Resizing(size, size)
        best = best_words(scores, resizing, WORDS_AT_ONCE).cpu().numpy()
        words = self._first_of[best]  # equal words tie but for rounding; the first one wins
        return segment_by_word(words, features.cpu().numpy(), resizing, connected=self.connected)

    def _features(self, image: np.ndarray) -> torch.Tensor:
        raw = torch.tensor(image, device=self._device).permute(2, 0, 1)
        pixels = _input(raw.float(), self.short_side)
        rows = pixels.shape[2] // clip_vision.PATCH
        with mixed_precision(self._device, self._autocast):
            tokens = clip_vision.dense_embeddings(self._visual, pixels, whole_block=False)
        return F.normalize(tokens[0, 1:], dim=-1).T.unflatten(1, (rows, -1))


def create(vocabulary: Vocabulary, options: TeacherOptions) -> MaskClipTeacher:
    """Load OpenAI's weights and embed the vocabulary's words (80 ImageNet templates).

    Raises:
        MissingFileError: no weights; says where they are published.
        InputError: the file is another one, or no such device.

    """
    (path,) = require_files("maskclip", options.weights, OFFICIAL)
    device = choose_device(options.device)
    with torch.device("meta"):
        clip = clip_vision.build_clip()
    load_weights(clip, read_tensors(path), path, ignored=NOT_WEIGHTS)
    clip.to(device)
    digest = weights_hash([path])
    return MaskClipTeacher(
        clip,
        word_embeddings(clip, vocabulary.words, IMAGENET_TEMPLATES, digest),
        weights_hash=digest,
        device=device,
        autocast=options.autocast,
    )


def _input(pixels: torch.Tensor, short_side: int) -> torch.Tensor:
    """[1, 3, h, w], normalised, the shorter side as given, both a whole number of patches."""
    size = pixels.shape[1:]
    patches = [max(1, round(n * short_side / min(size) / clip_vision.PATCH)) for n in size]
    resized = F.interpolate(
        pixels[None],
        size=[n * clip_vision.PATCH for n in patches],
        mode="bicubic",
        align_corners=False,
        antialias=True,
    )
    shift, scale = (pixels.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return (resized.clamp(0, 255) / 255 - shift) / scale
