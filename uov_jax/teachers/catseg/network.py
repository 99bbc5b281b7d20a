"""The CAT-Seg network of the first release (August 2023), ViT-L/14 and Swin-B, for inference."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from uov_jax.teachers import clip_vision
from uov_jax.teachers.catseg.aggregator import Aggregator
from uov_jax.teachers.catseg.swin import SwinTransformer

DIVISIBILITY = 32
APPEARANCE_RESOLUTION = 384
# Means and standard deviations of RGB in 0..255: CLIP's, and ImageNet's for Swin.
CLIP_MEAN, CLIP_STD = (122.7709383, 116.7460125, 104.09373615), (68.5005327, 66.6321579, 70.323163)
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Output(NamedTuple):
    """logits float32 [words, 96, 96]; embeddings float32 [768, 24, 24], CLIP's, not normalised.

    Both cover the padded image.
    """

    logits: torch.Tensor
    embeddings: torch.Tensor


class Predictor(nn.Module):
    """CLIP and the aggregation, under the names of the released checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.clip_model = clip_vision.build_clip()
        self.transformer = Aggregator()


class Head(nn.Module):
    """A level of the released checkpoint's names."""

    def __init__(self) -> None:
        super().__init__()
        self.predictor = Predictor()


class CatSeg(nn.Module):
    """CAT-Seg (arXiv 2303.11797), v1, large: the network of `model_final_large.pth`."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = SwinTransformer()
        self.sem_seg_head = Head()

    @property
    def clip(self) -> nn.Module:
        """CLIP with both towers."""
        return self.sem_seg_head.predictor.clip_model

    def forward(self, image: torch.Tensor, text: torch.Tensor, words_at_once: int = 16) -> Output:
        """Run the network on one image.

        Args:
            image: [3, height, width], RGB 0..255, of any size.
            text: float32 [words, 80, 768], embeddings of every word in every prompt.
            words_at_once: how many words the aggregation takes together; memory grows with it.

        """
        image = image.float()
        small = squash(image, CLIP_MEAN, CLIP_STD, clip_vision.RESOLUTION)
        tokens = clip_vision.dense_embeddings(self.clip.visual, small, whole_block=True)
        grid = clip_vision.RESOLUTION // clip_vision.PATCH
        embeddings = tokens[0, 1:].T.unflatten(1, (grid, grid))
        squashed = squash(image, IMAGENET_MEAN, IMAGENET_STD, APPEARANCE_RESOLUTION)
        appearance = self.backbone(squashed)
        aggregator = self.sem_seg_head.predictor.transformer
        logits = aggregator(embeddings, text, appearance, words_at_once)
        return Output(logits, embeddings)


def padded_size(height: int, width: int) -> tuple[int, int]:
    """Size of the image with what is padded on the right and below."""
    return height + -height % DIVISIBILITY, width + -width % DIVISIBILITY


def squash(
    image: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...], resolution: int
) -> torch.Tensor:
    """Normalise [3, height, width], pad with zeros, resize: [1, 3, resolution, resolution]."""
    shift, scale = (image.new_tensor(values)[:, None, None] for values in (mean, std))
    height, width = image.shape[1:]
    full_height, full_width = padded_size(height, width)
    padded = F.pad((image - shift) / scale, (0, full_width - width, 0, full_height - height))
    size = (resolution, resolution)
    return F.interpolate(padded[None], size=size, mode="bilinear", align_corners=False)
