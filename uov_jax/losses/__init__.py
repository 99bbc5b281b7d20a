"""Training losses as pure functions of one device's arrays."""

from __future__ import annotations

from uov_jax.losses.language import cosine_distance, mean_in_chunks, word_likelihoods
from uov_jax.losses.segmentation import cross_entropy, lovasz_softmax, segmentation_loss
from uov_jax.losses.tri_modal import (
    mean_cross_entropy_rows,
    soft_text_targets,
    superpoint_means,
    tri_modal_loss,
)

__all__ = [
    "cosine_distance",
    "cross_entropy",
    "lovasz_softmax",
    "mean_cross_entropy_rows",
    "mean_in_chunks",
    "segmentation_loss",
    "soft_text_targets",
    "superpoint_means",
    "tri_modal_loss",
    "word_likelihoods",
]
