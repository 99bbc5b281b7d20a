"""ESG, the second stage of 3DSS-VLG, on S3DIS: MinkUNet18A learns the specialised features.

    python scripts/train.py --config configs/esg_s3dis.py
    python scripts/train.py --config configs/esg_s3dis.py:14a        # MinkUNet14A
    python scripts/train.py --config configs/esg_s3dis.py:plain      # from plain fused features
    python scripts/train.py --config configs/esg_s3dis.py:sim        # simulated rooms, two cores
    python scripts/train.py --config configs/esg_s3dis.py:sim-plain  # both

It wants prepared rooms in data/s3dis/store, Area 5 held out, and the features that
scripts/export_features.py wrote after configs/ess_s3dis.py in data/s3dis/specialised.

Nothing was released for S3DIS; these are the settings for ScanNet, see configs/esg_scannet.py.
Hardware and duration are not published.

Expected, as the paper (arXiv 2407.09826) reports it for Area 5 (mIoU; nothing measured here yet):
45.3 with MinkUNet18A, 44.5 with MinkUNet14A; 13.4 on ScanNet's validation scenes without training
on them, and 33.3 on S3DIS for a network trained on ScanNet.

":sim" is on the simulated rooms of configs/esg_scannet.py:sim, which have ScanNet's classes.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is "", "plain", "14a", "14a-plain", "sim" or "sim-plain"."""
    return common.apply_esg_variant(common.distillation("s3dis"), arg)
