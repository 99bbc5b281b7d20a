"""CAT-Seg as a teacher: from image and words to masks, one for every word that wins a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from uov_jax.teachers.catseg.network import CatSeg, Output, padded_size
from uov_jax.teachers.regions import Resizing, best_words, segment_by_word
from uov_jax.teachers.runtime import autocast_setting, choose_device, mixed_precision
from uov_jax.teachers.teacher import ImageMasks, TeacherOptions, require_rgb, unusual
from uov_jax.teachers.text import IMAGENET_TEMPLATES, first_of_equal_rows, template_embeddings
from uov_jax.teachers.weights import (
    OfficialFile,
    load_weights,
    read_tensors,
    require_files,
    weights_hash,
)
from uov_jax.vocabulary import Vocabulary

# The checkpoint of the 2024 release, in the authors' own repository, has other tensors.
OFFICIAL = (
    OfficialFile("model_final_large.pth", "https://huggingface.co/hamacojr/CAT-Seg", 1.98e9),
)


class CatSegTeacher:
    """Words by the highest sigmoid, embeddings by CLIP's dense features over the mask.

    The network sees the image padded to a multiple of 32 pixels. The released code means to cut the
    padding off its outputs and does not, so it stretches them over the image: at 1600 x 900 what
    lies in row y comes out in row y * 900 / 928. Here the padding is cut off.

    Attributes:
        stretch_padding: stretch as the released code does; the published numbers were made so.
        words_at_once: words whose maps are in memory together.

    """

    name = "catseg"
    embedding_size = 768
    masks_per_image = 40
    mask_bytes: int | None = None

    def __init__(
        self,
        network: CatSeg,
        text: np.ndarray,
        *,
        weights_hash: str = "",
        device: torch.device | None = None,
        autocast: bool = False,
        stretch_padding: bool = False,
        words_at_once: int = 16,
    ) -> None:
        """Take a network with its weights.

        Args:
            network: in evaluation mode.
            text: float32[words, 80, 768], unit rows: every word in every prompt.
            weights_hash: sha256 of the weight file.
            device: where to run; the CPU by default.
            autocast: half precision where it is enough.
            stretch_padding: see the class.
            words_at_once: see the class.

        """
        self.weights_hash = weights_hash
        self.stretch_padding = stretch_padding
        self.words_at_once = words_at_once
        self._device = device or torch.device("cpu")
        self._autocast = autocast
        self.settings = unusual(
            autocast=autocast and autocast_setting(self._device), stretch_padding=stretch_padding
        )
        self._network = network.to(self._device)
        self._first_of = first_of_equal_rows(text.reshape(len(text), -1))
        rows = torch.from_numpy(text)
        self._text = rows.to(self._device)
        self.text_embeddings: np.ndarray = F.normalize(rows.mean(1), dim=-1).numpy()

    @property
    def text_tower(self) -> Any:
        """CLIP's text tower, in whose space the embeddings are; see `text.encode_prompts`."""
        return self._network.clip

    def segment(self, images: Sequence[np.ndarray]) -> list[ImageMasks]:
        """Segment RGB images uint8[H, W, 3] of one size; every pixel gets a word.

        Raises:
            InputError: an image is of another kind, or they differ in size.

        """
        require_rgb(images)
        return [self._segment(image) for image in images]

    @torch.inference_mode()
    def _segment(self, image: np.ndarray) -> ImageMasks:
        pixels = torch.tensor(image, device=self._device).permute(2, 0, 1)
        with mixed_precision(self._device, self._autocast):
            output: Output = self._network(pixels, self._text, self.words_at_once)
        size = (image.shape[0], image.shape[1])
        resizing = Resizing(size if self.stretch_padding else padded_size(*size), size)
        words = best_words(output.logits.sigmoid(), resizing, self.words_at_once)
        # Equal words tie but for rounding; the first one wins.
        chosen = self._first_of[words.cpu().numpy()]
        return segment_by_word(chosen, output.embeddings.cpu().numpy(), resizing)


def create(vocabulary: Vocabulary, options: TeacherOptions) -> CatSegTeacher:
    """Load the official weights and embed the vocabulary's words.

    Raises:
        MissingFileError: no weights; says where they are published.
        InputError: the file is another one, or no such device.

    """
    (path,) = require_files("catseg", options.weights, OFFICIAL)
    device = choose_device(options.device)
    with torch.device("meta"):
        network = CatSeg()
    load_weights(network, read_tensors(path), path)
    network.to(device)
    digest = weights_hash([path])
    return CatSegTeacher(
        network,
        prompt_embeddings(network.clip, vocabulary.words, digest),
        weights_hash=digest,
        device=device,
        autocast=options.autocast,
        stretch_padding=options.stretch_padding,
    )


def prompt_embeddings(tower: Any, words: Sequence[str], weights_hash: str) -> np.ndarray:
    """float32[words, 80, 768], unit rows: every word in every ImageNet template.

    Synonyms in one word, "door, double door", are averaged within each template, as the released
    code does.

    Args:
        tower: CLIP's, see `template_embeddings`.
        words: as they are to be prompted.
        weights_hash: of the tower's weights, for the cache.

    """
    synonyms = [word.split(", ") for word in words]
    every = [part for parts in synonyms for part in parts]
    rows = template_embeddings(tower, every, IMAGENET_TEMPLATES, weights_hash)
    if len(every) == len(synonyms):
        return rows
    ends = np.cumsum([len(parts) for parts in synonyms])
    means = np.stack([part.mean(axis=0) for part in np.split(rows, ends[:-1])])
    return means / np.linalg.norm(means, axis=-1, keepdims=True)
