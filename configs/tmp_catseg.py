"""Tri-modal pre-training of Res16UNet34C with CAT-Seg (v1, ViT-L/14) as teacher, on nuScenes.

    python scripts/train.py --config configs/tmp_catseg.py
    python scripts/train.py --config configs/tmp_catseg.py:slidr # 16 sweeps a step, see below
    python scripts/train.py --config configs/tmp_catseg.py:sim   # a simulated drive, two CPU cores

It wants nuScenes in data/nuscenes and the teacher's dumps in data/dumps/catseg.

The released settings take 4 sweeps a step, one on each of 4 GPUs, for 40 epochs, so that a contrast
sees the masks of one sweep: that is the default, on any number of devices that divides 4. SLidR's
own recipe, whose code it is, takes 16 a step and 4 to a contrast: ":slidr". Which of the two the
paper's numbers are of was not at hand; the duration is not published.

Expected, as the paper reports it for nuScenes validation (mIoU; nothing measured here yet):
43.95 linear probing, 46.61 fine-tuning on 1 %; 42.50 after annotation-free training.

`:sim` differs in more than the data: Adam in the place of SGD, one sweep a step, a rate that decays
at every step instead of every epoch, and sweeps scaled at random.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is "", "slidr", "sim" or "sim-long"."""
    return common.with_teacher("catseg", arg)
