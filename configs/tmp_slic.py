r"""Class-agnostic pre-training of Res16UNet34C on SLIC superpixels, without any teacher network.

    python scripts/dump_teacher.py --teacher slic --data data/nuscenes --output data/dumps/slic
    python scripts/train.py --config configs/tmp_slic.py

On a simulated drive with two CPU cores, after `python scripts/simulate.py --output data/sim`:

    python scripts/dump_teacher.py --teacher slic --data data/sim --version v1.0-sim \
        --split sim_train --output data/sim/dumps/slic
    python scripts/dump_teacher.py --teacher slic --data data/sim --version v1.0-sim \
        --split sim_val --output data/sim/dumps/slic
    python scripts/train.py --config configs/tmp_slic.py:sim

A set smaller than a batch, down to one keyframe, needs a batch of its size in one shard, no more
devices than that and a number of steps, for its epochs are of one step; the dump command prints the
line:

    python scripts/train.py --config configs/tmp_slic.py --devices=1 --config.batch_size=1 \
        --config.sweeps_per_shard=1 --config.total_steps=400 --config.data.root=... \
        --config.data.val_split=

The image term of tri-modal pre-training alone: superpixels have descriptors but no words, so
there is neither a text term nor a zero-shot score. It takes the way of SLidR (arXiv 2203.16258:
SLIC superpixels, 50 epochs of 16 sweeps a step, 4 to a contrast) with colour and texture
descriptors in the place of its image network, so no published score belongs to it; SLidR itself
reports 38.8 mIoU in linear probing and 38.3 in fine-tuning on 1 % of nuScenes.

`:sim` differs in more than the data: Adam in the place of SGD, one sweep a step, a rate that decays
at every step instead of every epoch, and sweeps scaled at random.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is "", "sim" or "sim-long"."""
    config = common.pretraining()
    common.use_slidr_batches(config)
    config.total_epochs = 50.0
    config.data.dumps = "data/dumps/slic"
    config.loss.update(image_weight=1.0, text_weight=0.0)
    config = common.apply_variant(config, arg)
    if arg:
        config.data.dumps = f"{config.data.root}/dumps/slic"
    return config
