"""FC-CLIP as one module: an image to masks, their words and their embeddings.

Yu et al., "Convolutions Die Hard: Open-Vocabulary ImageMasks with Single Frozen Convolutional
CLIP", 2023. Names and shapes of the weights are those of the official checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uov_jax.teachers.fcclip.backbone import LAST, Backbone
from uov_jax.teachers.fcclip.ensemble import join_vocabularies, word_logits
from uov_jax.teachers.fcclip.pixel_decoder import PixelDecoder
from uov_jax.teachers.fcclip.transformer_decoder import (
    EMBEDDING_SIZE,
    MaskDecoder,
    Queries,
    pool_inside,
)


class Prediction(NamedTuple):
    """What the network says of B images, for Q = 250 queries and W words.

    mask_logits: float32[B, Q, height / 4, width / 4], positive inside. log_probabilities:
    float32[B, Q, W + 1], void last. in_vocabulary: float32[B, Q, 768], class embeddings as trained
    on COCO. out_vocabulary: float32[B, Q, 768], CLIP's embedding of the mask's region. Neither is
    normalised; both are in the space of the text embeddings.
    """

    mask_logits: Tensor
    log_probabilities: Tensor
    in_vocabulary: Tensor
    out_vocabulary: Tensor


class Head(nn.Module):
    """Pixel decoder and mask decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.pixel_decoder = PixelDecoder()
        self.predictor = MaskDecoder()

    def forward(self, features: Mapping[str, Tensor]) -> Queries:
        """Masks and class embeddings from the backbone's feature maps."""
        queries: Queries = self.predictor(self.pixel_decoder(features))
        return queries


class FcClip(nn.Module):
    """The network; weights are uninitialised until a checkpoint is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.sem_seg_head = Head()
        self.void_embedding = nn.Embedding(1, EMBEDDING_SIZE)

    def forward(self, images: Tensor, text: Tensor, seen: Tensor) -> Prediction:
        """Predict.

        Args:
            images: float[B, 3, H, W], normalised, sides multiples of 32.
            text: float32[W, 768], a unit row for every word.
            seen: bool[W], whether the word was among those of the training.

        """
        features = self.backbone(images)
        # In half precision the backbone alone. A mask is where logits are positive, and a layer's
        # masks choose what the next one looks at: rounded there, whole masks come out as others.
        with torch.autocast(images.device.type, enabled=False):
            features = {name: level.float() for name, level in features.items()}
            mask_logits, in_vocabulary = self.sem_seg_head(features)
            out_vocabulary = self.embed_regions(features[LAST], mask_logits)
            rows = torch.cat([text, self.void_row()])
            in_scale = self.sem_seg_head.predictor.logit_scale
            out_scale = self.backbone.clip_model.logit_scale
            log_probabilities = join_vocabularies(
                word_logits(in_vocabulary, rows, in_scale),
                word_logits(out_vocabulary, text, out_scale),
                seen,
            )
        return Prediction(mask_logits, log_probabilities, in_vocabulary, out_vocabulary)

    def embed_regions(self, features: Tensor, mask_logits: Tensor) -> Tensor:
        """float[B, Q, 768]: CLIP's embedding of the mean feature inside each mask."""
        small = F.interpolate(mask_logits, features.shape[-2:], mode="bilinear")
        embedded: Tensor = self.backbone.embed_regions(pool_inside(features, small))
        return embedded

    def void_row(self) -> Tensor:
        """float32[1, 768]: the unit row that stands for no word."""
        return F.normalize(self.void_embedding.weight, dim=-1)
