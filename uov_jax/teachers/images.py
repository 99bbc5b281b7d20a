"""RGB images on their way into a PyTorch network."""

from __future__ import annotations

import numpy as np
import torch


def to_tensor(image: np.ndarray, device: torch.device) -> torch.Tensor:
    """float32 [3, height, width], 0..255, of an RGB image uint8[height, width, 3].

    Raises:
        ValueError: the array is no such image.

    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected an RGB image uint8[H, W, 3], found {image.dtype} {image.shape}")
    return torch.tensor(image, device=device).permute(2, 0, 1).float()
