"""RGB images as the networks on CLIP take them: normalised, and padded to whole patches."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

MULTIPLE = 32
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def normalised(image: np.ndarray) -> torch.Tensor:
    """float32[3, h, w]: CLIP's mean and deviation, zeros to the right and below to 32 pixels."""
    pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)
    # Scaled before they are rounded to float32, as the official configurations state them.
    mean, deviation = (
        torch.tensor([255 * v for v in values]).view(3, 1, 1) for values in (MEAN, DEVIATION)
    )
    down, across = (-side % MULTIPLE for side in pixels.shape[1:])
    return F.pad((pixels - mean) / deviation, (0, across, 0, down))
