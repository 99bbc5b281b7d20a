"""Fine-tuning of Res16UNet34C on some of nuScenes' labels.

    python scripts/train.py --config configs/finetune_nuscenes.py        # 1 % of the scenes
    python scripts/train.py --config configs/finetune_nuscenes.py:10     # 10 %; 1, 5, 10, 25, 100

The 1 % are every 100th of the 700 training scenes, as in SLidR (arXiv 2203.16258). It starts from
the weights of configs/tmp_san.py in runs/tmp_san; from others, or from random ones:

    python scripts/train.py --config configs/finetune_nuscenes.py --workdir runs/finetune_uov \
        --config.init.checkpoint=runs/annotation_free_san
    python scripts/train.py --config configs/finetune_nuscenes.py --workdir runs/finetune_random \
        --config.init.checkpoint=

Variants: the share in percent; "parametrize", or "10-parametrize", holds 100 of the training
scenes out instead of validating on `val`; ":sim" is one scene of a simulated drive on two CPU
cores, starting from runs/tmp_san-sim, ":sim-long" one of the longer drive.

Expected on 1 %, as the paper reports it for nuScenes validation (mIoU; nothing measured here yet):
30.3 from random weights, 38.3 from SLidR's, 47.60 after tri-modal pre-training with SAN, 51.75
after annotation-free training with SAN. The published run took 30 epochs of 16 sweeps a step;
hardware and duration are not published.

":sim" differs in more than the data: Adam in the place of SGD, one sweep a step, a rate that
decays at every step instead of every epoch.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common

PERCENT = ("1", "5", "10", "25", "100")


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is "", a percentage, "parametrize", both, "sim" or "sim-long"."""
    config = common.finetuning()
    if arg in common.VARIANTS:
        config = common.apply_segmentation_variant(config, arg, steps=100)
        config.data.train_split = common.SIMULATED_SCENE
        return config
    parts = arg.split("-") if arg else []
    percent = [part for part in parts if part in PERCENT]
    if len(percent) > 1 or not set(parts) <= {*PERCENT, "parametrize"}:
        raise ValueError(
            f"no variant {arg!r} of this config, there are {', '.join(PERCENT)}, parametrize, "
            f"10-parametrize and the like, {', '.join(common.VARIANTS)}"
        )
    if percent:
        config.data.train_split = f"train:{percent[0]}%"
    if "parametrize" in parts:
        common.use_parametrize_split(config)
    return config
