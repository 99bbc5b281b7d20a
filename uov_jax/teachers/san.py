"""The teacher SAN: official weights, images in, named masks with embeddings out.

What is done before and after the network is what UOV does (arXiv 2405.15286, its script for SAN):
each pixel takes the word with the largest sum over proposals of class probability times mask
probability; a mask is all pixels of one word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from uov_jax.teachers.clip_input import MULTIPLE, normalised
from uov_jax.teachers.runtime import autocast_setting, choose_device, mixed_precision
from uov_jax.teachers.san_network import EMBEDDING_SIZE, SanNetwork
from uov_jax.teachers.teacher import ImageMasks, TeacherOptions, require_rgb, unusual
from uov_jax.teachers.text import VILD_TEMPLATES, first_of_equal_rows, word_embeddings
from uov_jax.teachers.weights import (
    OfficialFile,
    load_weights,
    read_tensors,
    require_files,
    weights_hash,
)
from uov_jax.vocabulary import Vocabulary

OFFICIAL = (OfficialFile("san_vit_large_14.pth", "https://huggingface.co/Mendel192/san", 1.75e9),)
IGNORED = ("criterion.",)
SHORT_SIDE = 640
ROWS = 60  # of the image at a time: 175 words and 100 proposals of all rows would be 1.6 GB


class SanTeacher:
    """SAN with its weights and the vectors of a vocabulary."""

    name = "san"
    embedding_size = EMBEDDING_SIZE
    masks_per_image = 20
    mask_bytes: int | None = None

    def __init__(
        self,
        network: SanNetwork,
        text_embeddings: np.ndarray,
        weights_hash: str,
        device: torch.device | str = "cpu",
        autocast: bool = False,
    ) -> None:
        """Take over a network with its weights, and unit rows [W, 768] of the words."""
        self.weights_hash = weights_hash
        self.text_embeddings: np.ndarray | None = text_embeddings
        self._device = torch.device(device)
        self._autocast = autocast
        self.settings = unusual(autocast=autocast and autocast_setting(self._device))
        self._network = network.to(self._device)
        text = torch.from_numpy(text_embeddings).to(self._device)
        with torch.inference_mode():
            self._classifier = network.ov_classifier.rows(text)
        # Words with the same vector tie; the first one wins, whatever the rounding of the sums.
        first = first_of_equal_rows(text_embeddings)
        self._first_of = torch.from_numpy(first).to(self._device)

    @property
    def text_tower(self) -> Any:
        """CLIP's text tower, in whose space the embeddings are; see `text.encode_prompts`."""
        return self._network.ov_classifier

    def segment(self, images: Sequence[np.ndarray]) -> list[ImageMasks]:
        """Segment RGB images uint8[H, W, 3] of one size; every pixel belongs to a mask.

        Raises:
            InputError: an image is of another kind, or they differ in size.

        """
        require_rgb(images)
        inputs = torch.stack([normalised(resized(image)) for image in images]).to(self._device)
        size = images[0].shape[:2]
        with torch.inference_mode():
            with mixed_precision(self._device, self._autocast):
                masks, embeddings = self._network(inputs)
            return [
                self._segmentation(*proposals, size)
                for proposals in zip(masks, embeddings, strict=True)
            ]

    def _segmentation(
        self, masks: torch.Tensor, embeddings: torch.Tensor, size: tuple[int, int]
    ) -> ImageMasks:
        probabilities = self.word_probabilities(embeddings)
        words = torch.empty(size, dtype=torch.int64, device=self._device)
        weights = torch.zeros(
            probabilities.shape[1], len(masks), dtype=torch.float64, device=self._device
        )
        for rows, pixels in mask_probabilities(masks, size):
            chosen = self._first_of[(probabilities.T @ pixels.flatten(1)).argmax(0)]
            words[rows] = chosen.unflatten(0, (-1, size[1]))
            # A mask's embedding is the sum over its pixels of sum_q probability_q e_q: the
            # probabilities can be summed first. By a product, whose sums have a fixed order.
            here, place = chosen.unique(return_inverse=True)
            members = F.one_hot(place, len(here)).T.to(pixels.dtype)
            weights[here] += members @ pixels.flatten(1).T
        present, ids = words.unique(return_inverse=True)
        rows_of_masks = F.normalize(weights[present].float() @ embeddings, dim=-1)
        return ImageMasks(
            masks=(ids + 1).cpu().numpy().astype(np.uint16),
            words=present.cpu().numpy().astype(np.int32),
            embeddings=rows_of_masks.cpu().numpy(),
        )

    def word_probabilities(self, embeddings: torch.Tensor) -> torch.Tensor:
        """[100, W]: probability of each word for unit proposal embeddings [100, 768]."""
        return (embeddings @ self._classifier.T).softmax(-1)[:, :-1]


def create(vocabulary: Vocabulary, options: TeacherOptions) -> SanTeacher:
    """Make the teacher from the official file; see `uov_jax.teachers.create_teacher`."""
    device = choose_device(options.device)
    (path,) = require_files("san", options.weights, OFFICIAL)
    network = load_network(read_tensors(path), str(path)).to(device)
    digest = weights_hash([path])
    text = word_embeddings(network.ov_classifier, vocabulary.words, VILD_TEMPLATES, digest)
    return SanTeacher(network, text, digest, device, options.autocast)


def load_network(tensors: dict[str, torch.Tensor], place: str) -> SanNetwork:
    """The network with exactly the official tensors; WeightsError naming `place` otherwise."""
    with torch.device("meta"):
        network = SanNetwork()
    load_weights(network, tensors, place, ignored=IGNORED)
    return network


def resized(image: np.ndarray) -> np.ndarray:
    """uint8[h, w, 3]: the image with its shorter side at 640 pixels, by PIL's bicubic filter."""
    height, width = image.shape[:2]
    short = min(height, width)
    size = (width * SHORT_SIDE // short, height * SHORT_SIDE // short)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def mask_probabilities(
    masks: torch.Tensor, size: tuple[int, int], rows: int = ROWS
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Mask probabilities at the image's own pixels, some rows at a time.

    Args:
        masks: float32[Q, h, w], logits over the padded input.
        size: height and width of the image.
        rows: of the image, at a time.

    Yields:
        Rows of the image, and float32[Q, rows, W].

    """
    short = min(size)
    inner = [side * SHORT_SIDE // short for side in size]
    vertical, horizontal = (
        _enlarging(coarse, between, fine).to(masks.device)
        for coarse, between, fine in zip(masks.shape[1:], inner, size, strict=True)
    )
    wide = masks @ horizontal.T
    for start in range(0, size[0], rows):
        part = slice(start, min(start + rows, size[0]))
        yield part, torch.einsum("rh,qhw->qrw", vertical[part], wide).sigmoid_()


def _enlarging(coarse: int, between: int, fine: int) -> torch.Tensor:
    """float32[fine, coarse]: the two bilinear resizings of one axis as a matrix.

    From the grid of patches to the padded input, whose padding is cut off, and from there to the
    image.
    """
    padded = between + -between % MULTIPLE
    unit = torch.eye(coarse, dtype=torch.float64)[None]
    at_input = F.interpolate(unit, padded, mode="linear")[..., :between]
    return F.interpolate(at_input, fine, mode="linear")[0].T.float()
