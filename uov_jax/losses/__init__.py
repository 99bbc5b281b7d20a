"""Training losses as pure functions of one device's arrays."""

from __future__ import annotations

from uov_jax.losses.devices import gather_rows, num_devices, over_devices, share_of_mean
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
    "gather_rows",
    "lovasz_softmax",
    "mean_cross_entropy_rows",
    "mean_in_chunks",
    "num_devices",
    "over_devices",
    "segmentation_loss",
    "share_of_mean",
    "soft_text_targets",
    "superpoint_means",
    "tri_modal_loss",
    "word_likelihoods",
]
