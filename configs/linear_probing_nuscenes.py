"""Linear probing on nuScenes: a last layer on frozen features of Res16UNet34C.

    python scripts/train.py --config configs/linear_probing_nuscenes.py

All labels of the 700 training scenes, as in SLidR (arXiv 2203.16258). Everything but the last
layer's kernel and bias stays as it is in the checkpoint, batch norm statistics included, and no
gradient of it is computed. It starts from the weights of configs/tmp_san.py in runs/tmp_san;
--config.init.checkpoint=... takes others, or random ones where it is empty.

Variants: ":parametrize" holds 100 of the training scenes out instead of validating on `val`;
":sim" is a simulated drive on two CPU cores, starting from runs/tmp_san-sim, ":sim-long" the
longer one.

Expected, as the paper reports it for nuScenes validation (mIoU; nothing measured here yet): 8.1
from random weights, 38.8 from SLidR's, 46.29 after tri-modal pre-training with SAN, 56.35 after
annotation-free training with SAN. The published run took 30 epochs of 16 sweeps a step; hardware
and duration are not published.

":sim" differs in more than the data: Adam in the place of SGD, one sweep a step, a rate that
decays at every step instead of every epoch.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is "", "parametrize", "sim" or "sim-long"."""
    config = common.finetuning()
    config.data.train_split = "train"
    config.model.freeze_trunk = True
    config.optimizer.update(learning_rate=0.05, head_learning_rate=None)
    if arg == "parametrize":
        common.use_parametrize_split(config)
    elif arg:
        config = common.apply_segmentation_variant(config, arg, steps=100)
    return config
