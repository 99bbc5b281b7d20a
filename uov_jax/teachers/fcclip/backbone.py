"""FC-CLIP's backbone: CLIP's ConvNeXt-L, as feature maps and as the embedding of a region."""

from __future__ import annotations

import open_clip
import torch
from torch import Tensor, nn

CLIP_MODEL = "convnext_large_d_320"
LAST = "res5"  # stride 32, 1536 channels: what CLIP's own head works on


class Backbone(nn.Module):
    """The frozen CLIP; its text tower rides along as in the official file."""

    def __init__(self) -> None:
        super().__init__()
        self.clip_model = open_clip.CLIP(**open_clip.get_model_config(CLIP_MODEL))
        # Derived, and not in the official file. Text is encoded without it (`teachers.text`).
        self.clip_model.attn_mask = None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps of normalised images float[B, 3, H, W], sides multiples of 32.

        Returns:
            res2..res5: float[B, C, h, w] at strides 4, 8, 16, 32 with 192, 384, 768, 1536 channels.

        """
        trunk = self.clip_model.visual.trunk
        features = {}
        # In float32 under autocast too: see `clip_vision.embed_patches`.
        with torch.autocast(images.device.type, enabled=False):
            map_ = trunk.stem(images)
        for number, stage in enumerate(trunk.stages):
            features[f"res{number + 2}"] = map_ = stage(map_)
        features[LAST] = trunk.norm_pre(map_)
        return features

    def embed_regions(self, pooled: Tensor) -> Tensor:
        """float[B, Q, 768], not normalised: CLIP's embeddings of features float[B, Q, 1536]."""
        visual = self.clip_model.visual
        rows = pooled.flatten(0, 1)[:, :, None, None]
        embedded: Tensor = visual.head(visual.trunk.head(rows))
        return embedded.unflatten(0, pooled.shape[:2])
