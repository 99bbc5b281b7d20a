"""Annotation-free training of Res16UNet34C on the masks of FC-CLIP (ConvNeXt-L), on nuScenes.

    python scripts/make_superpoints.py --data data/nuscenes --dumps data/dumps/fcclip \
        --output data/superpoints/fcclip --split train
    python scripts/train.py --config configs/annotation_free_fcclip.py

It starts from the weights of configs/tmp_fcclip.py in runs/tmp_fcclip. As the baseline without
tri-modal pre-training, from SLidR's weights and for twice as long:

    python scripts/train.py --config configs/annotation_free_fcclip.py \
        --workdir runs/baseline_fcclip --config.init.checkpoint=minkunet_slidr_1gpu.pt \
        --config.total_epochs=10

Variants: ":parametrize" holds 100 of the training scenes out instead of validating on `val`;
":sim" is a simulated drive on two CPU cores (after configs/tmp_san.py:sim and the superpoints of
data/sim in data/sim/superpoints/simulated), ":sim-long" the longer one.

Expected, as the paper reports it for nuScenes validation (mIoU; nothing measured here yet): 39.00
as the baseline, 42.44 after tri-modal pre-training. The published run took 5 epochs (the baseline
10) of 16 sweeps a step; hardware and duration are not published.

":sim" differs in more than the data: Adam in the place of SGD, one sweep a step, a rate that
decays at every step instead of every epoch.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is "", "parametrize", "sim" or "sim-long"."""
    config = common.annotation_free("fcclip")
    if arg == "parametrize":
        common.use_parametrize_split(config)
    elif arg:
        config = common.apply_segmentation_variant(config, arg, steps=240)
    return config
