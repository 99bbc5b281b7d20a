"""FC-CLIP (arXiv 2308.02487) with ConvNeXt-L, trained on COCO panoptic: a panoptic teacher."""

from __future__ import annotations

from uov_jax.teachers.fcclip.network import FcClip, Prediction
from uov_jax.teachers.fcclip.teacher import OFFICIAL, FcClipTeacher, PanopticSegmentation, create

__all__ = ["OFFICIAL", "FcClip", "FcClipTeacher", "PanopticSegmentation", "Prediction", "create"]
