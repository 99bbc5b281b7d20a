"""Fine-tuning of Res16UNet34C on 1 % of SemanticKITTI's labels.

    python scripts/train.py --config configs/finetune_semantickitti.py

It wants SemanticKITTI in data/semantickitti (with `sequences` in it) and trains on every 100th scan
of sequences 00 to 07, 09 and 10, as SLidR does (arXiv 2203.16258); it validates on sequence 08. It
starts from the weights of configs/tmp_san.py in runs/tmp_san; --config.init.checkpoint=... takes
others, or random ones where it is empty. Another share: --config.data.train_split=train:10%.

To try it on one scan, here of sequence 00, in fifty steps from random weights (minutes on two CPU
cores; running statistics that follow faster suit so few steps):

    python scripts/train.py --config configs/finetune_semantickitti.py --workdir runs/one_scan \
        --devices=1 --config.data.train_split=00 --config.data.val_split=00 \
        --config.batch_size=1 --config.optimizer.rates_for_batch_size=1 --config.total_steps=50 \
        --config.init.checkpoint= --config.model.batch_norm_momentum=0.1 \
        --config.run.evaluate_every_epochs=1000

The feature is the intensity as stored, 0 to 1, though pre-training on nuScenes saw 0 to 255. The
released loaders of SLidR and UOV add 1 to it; --config.data.intensity_offset=1.0 does that.

Expected, as the paper reports it for sequence 08 (mIoU; nothing measured here yet): 39.5 from
random weights, 44.6 from SLidR's, 47.72 after tri-modal pre-training with SAN, 46.60 after
annotation-free training with SAN. The published run took 30 epochs of 10 scans a step; hardware
and duration are not published.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common
from uov_jax.datasets.lidar_file import SEMANTICKITTI_COLUMNS


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; there are no variants."""
    if arg:
        raise ValueError(f"no variant {arg!r} of this config, it has none")
    config = common.finetuning()
    config.batch_size = 10
    config.data.update(
        dataset="semantickitti",
        root="data/semantickitti",
        columns=SEMANTICKITTI_COLUMNS.text,
        train_split="train:1%",
        val_split="val",
        # A scan of 120,000 points has some 54,000.
        voxels=(36_000, 96_000),
    )
    config.optimizer.update(learning_rate=0.05, rates_for_batch_size=10)
    return config
