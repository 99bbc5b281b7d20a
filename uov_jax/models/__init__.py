"""Networks over sparse voxels (flax.nnx)."""

from __future__ import annotations

from uov_jax.models.minkunet import VARIANTS, MinkUNet, Variant, build_model, res16unet34c

__all__ = ["VARIANTS", "MinkUNet", "Variant", "build_model", "res16unet34c"]
