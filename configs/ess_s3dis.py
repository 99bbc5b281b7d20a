"""ESS, the first stage of 3DSS-VLG, on S3DIS: an adapter of fused features, by pseudo labels.

    python scripts/train.py --config configs/ess_s3dis.py
    python scripts/train.py --config configs/ess_s3dis.py:paper  # the paper's own settings
    python scripts/train.py --config configs/ess_s3dis.py:sim    # simulated rooms, two CPU cores

It wants prepared rooms in data/s3dis/store, Area 5 held out, their fused features in
data/s3dis/features and the pseudo labels made of those in data/s3dis/pseudo_labels. 3DSS-VLG labels
by the bare names of the classes, which is `--text` of scripts/make_pseudo_labels.py, see
docs/indoor.md; without it labels are by the features' own words. Afterwards, for
configs/esg_s3dis.py:

    python scripts/export_features.py --config configs/ess_s3dis.py

Nothing was released for S3DIS; these are the settings for ScanNet, see configs/ess_scannet.py.
Hardware and duration are not published.

Expected: no score of this stage alone is at hand, and nothing was measured here on S3DIS.

":sim" is on the simulated rooms of configs/ess_scannet.py:sim, which have ScanNet's classes.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is "", "paper" or "sim"."""
    return common.apply_ess_variant(common.specialisation("s3dis"), arg)
