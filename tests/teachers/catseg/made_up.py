"""CAT-Seg's made-up weights and words, and how closely what they give must be met."""

from __future__ import annotations

import numpy as np
import torch
from timm.models.swin_transformer import get_relative_position_index

from tests.teachers.recipe import official_tensors, tensor_for, text_rows
from uov_jax.teachers.catseg.windows import shift_mask

KEYS = "catseg_v1_large"
# Relative root mean square against the official code; float noise is up to 2e-6.
TOLERANCE = 1e-4


def recipe_weights(prefix: str) -> dict[str, torch.Tensor]:
    """The made-up tensors of the official names with a prefix, without it."""
    return {
        name.removeprefix(prefix): _tensor(name, shape)
        for name, (shape, _) in official_tensors(KEYS).items()
        if name.startswith(prefix)
    }


def template_rows() -> np.ndarray:
    """float32[175, 80, 768]: unit vectors in place of the text tower's."""
    noise = tensor_for("text_embedding_templates", (175, 80, 768), seed=8)
    noise /= np.linalg.norm(noise, axis=-1, keepdims=True)
    rows = text_rows()[:, None] + np.float32(0.5) * noise
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def assert_close(found: torch.Tensor | np.ndarray, expected: np.ndarray, name: str) -> None:
    found = np.asarray(found, np.float64)
    assert found.shape == expected.shape, name
    error = np.sqrt(((found - expected) ** 2).mean() / (expected.astype(np.float64) ** 2).mean())
    assert error < TOLERANCE, f"{name}: {error:.1e}"


def _tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    # Derived, so that the recipe leaves them as they are constructed.
    if name.endswith("relative_position_index"):
        return get_relative_position_index(12, 12)
    if name.endswith("attn_mask"):
        return shift_mask(24, 24, 12, 6)
    return torch.from_numpy(np.asarray(tensor_for(name, shape)))
