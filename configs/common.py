"""What the recipes have in common: the defaults of every field, and the small-scale variants.

A recipe is a file with `get_config(arg)`; `arg` is what follows the colon of
`--config configs/tmp_san.py:sim`. Every field stands here once; recipes change values.
"""

from __future__ import annotations

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from uov_jax.datasets.keyframe import CAMERAS, LIDAR
from uov_jax.datasets.lidar_file import NUSCENES_COLUMNS

VARIANTS = ("sim", "sim-long")
# The first one of a simulated drive.
SIMULATED_SCENE = "sim-0001"


def pretraining() -> ConfigDict:
    """Tri-modal pre-training as published: UOV (arXiv 2405.15286) and its released settings."""
    config = ConfigDict(
        {
            "task": "tri_modal",
            "seed": 0,
            # Sweeps a step over all devices together.
            "batch_size": 16,
            "total_epochs": 40.0,
            # Overrides total_epochs.
            "total_steps": placeholder(int),
            "data": {
                "root": "data/nuscenes",
                "version": "v1.0-trainval",
                # Channels of the sweeps and of the cameras, a later camera's label of a point over
                # an earlier one's. --config.data.cameras="('CAM_A', 'CAM_B')" names others.
                "lidar": LIDAR,
                "cameras": CAMERAS,
                # What the float32 columns of a sweep's points hold, _ for what is not used.
                "columns": NUSCENES_COLUMNS.text,
                # The released settings train on 600 scenes and hold 100 of the training scenes
                # out; "train" and "val" are the official split.
                "train_split": "parametrize",
                # "" for no validation.
                "val_split": "verify",
                # Folder of one teacher's dumps.
                "dumps": "",
                "vocabulary": "nuscenes",
                # Metres of radius, degrees of azimuth, metres of height.
                "voxel_size": (0.1, 1.0, 0.1),
                "cylindrical": True,
                # Smallest and largest factor by which a training sweep is scaled; None: not at all.
                "scale": placeholder(tuple),
                # Look masks up in the cropped and shrunk mask map, up to four pixels off, as the
                # released code does; else at the point's own pixel.
                "crop_lookup_at_small_pixel": False,
                # Smallest and largest size of a batch's arrays, per sweep, with a few sizes between
                # that rise together. Each that occurs is a program to compile.
                "voxels": (10_000, 36_000),
                "pairs": (16_384, 65_536),
                # Few of them cost nothing: the smallest size holds those of most batches.
                "superpoints": (768, 2048),
                # They build batches ahead: threads, or processes for many devices. Processes hand
                # them over in shared memory, which must hold four of each and two more.
                "workers": 4,
                "worker_processes": False,
            },
            "model": {
                "variant": "res16unet34c",
                # None: the size of the teacher's embeddings; another number is refused.
                "out_channels": placeholder(int),
                "batch_norm_momentum": 0.05,
                # Of the residual branches; None: as above. The released code leaves them at 0.1
                # whatever is configured.
                "block_batch_norm_momentum": placeholder(float),
                # "bfloat16" for activations and products; parameters and sums stay float32.
                "dtype": "float32",
            },
            "loss": {
                "temperature": 0.07,
                "image_weight": 0.5,
                # 0 for teachers without words.
                "text_weight": 0.5,
                # Share of a mask's own word in its target; the rest goes to its word group.
                "own_word_share": 0.2,
            },
            "optimizer": {
                "name": "sgd",
                "learning_rate": 0.5,
                # None: as the trunk's.
                "head_learning_rate": placeholder(float),
                # Both rates are for this many sweeps a step and scale with batch_size: at batch 1
                # the full rate throws the first features so far off that a short run does not
                # come back. None: as they are.
                "rates_for_batch_size": placeholder(int),
                "momentum": 0.9,
                "dampening": 0.1,
                "weight_decay": 1e-4,
            },
            "schedule": {"name": "cosine", "per": "epoch", "warmup_epochs": 0.0, "power": 0.9},
            # Nothing here changes a parameter of the network.
            "run": {
                # The first and the last step are logged, and the last one is saved, in any case;
                # 0: nothing else.
                "log_every_steps": 50,
                "checkpoint_every_steps": 500,
                # 0 for none.
                "evaluate_every_epochs": 5.0,
                # None: all.
                "validation_keyframes": placeholder(int),
                "picture_keyframes": 4,
                # In scripts/evaluate.py, let class 0 be predicted, where it counts as a miss, as
                # the reference's final script does; its validation during training forbids it.
                "predict_ignored": False,
                "tensorboard": True,
                # "": uov_jax/xla in the user's cache directory.
                "compilation_cache": "",
            },
        }
    )
    config.optimizer.rates_for_batch_size = 16
    return config


def annotation_free(teacher: str) -> ConfigDict:
    """Annotation-free training as published, from pre-trained weights of the same teacher."""
    config = _segmentation("annotation_free", train_split="train")
    config.total_epochs = 5.0
    # Folder of scripts/make_superpoints.py, or the reference's own files.
    config.data.labels = f"data/superpoints/{teacher}"
    config.init.checkpoint = f"runs/tmp_{teacher}"
    config.optimizer.update(learning_rate=0.02, head_learning_rate=2.0)
    config.run.evaluate_every_epochs = 1.0
    return config


def finetuning() -> ConfigDict:
    """Fine-tuning on 1 % of nuScenes as published, from weights pre-trained with SAN."""
    config = _segmentation("finetune", train_split="train:1%")
    config.total_epochs = 30.0
    config.data.dataset = "nuscenes"
    # Added to the input feature; used by SemanticKITTI alone.
    config.data.intensity_offset = 0.0
    config.init.checkpoint = "runs/tmp_san"
    config.model.batch_norm_momentum = 0.02
    config.optimizer.update(learning_rate=0.02, head_learning_rate=2.0)
    return config


def _segmentation(task: str, train_split: str) -> ConfigDict:
    """What annotation-free training and fine-tuning share, validated on nuScenes' own split."""
    config = pretraining()
    config.task = task
    # Cross-entropy + Lovász-softmax have no settings, and the images take no part.
    del config.loss, config.model.out_channels
    for field in ("dumps", "scale", "crop_lookup_at_small_pixel", "pairs", "superpoints"):
        del config.data[field]
    config.data.update(train_split=train_split, val_split="val", rotate=True, flip=True)
    # Linear probing: only the last layer learns; everything else is as in evaluation.
    config.model.freeze_trunk = False
    # A run directory or one of its checkpoints, or a .pt file of SLidR or UOV; "": random weights.
    config.init = ConfigDict({"checkpoint": ""})
    return config


def use_parametrize_split(config: ConfigDict) -> None:
    """Hold 100 of the training scenes out for choosing settings, and leave `val` alone."""
    share = config.data.train_split.partition(":")[2]
    config.data.train_split = "parametrize" + f":{share}" * bool(share)
    config.data.val_split = "verify"


def apply_variant(config: ConfigDict, arg: str | None) -> ConfigDict:
    """The recipe itself for no argument, else at the scale of the simulated drive.

    Raises:
        ValueError: there is no such variant.

    """
    if not arg:
        return config
    if arg not in VARIANTS:
        raise ValueError(f"no variant {arg!r} of this config, there are {', '.join(VARIANTS)}")
    _simulated_drive(config)
    config.data.update(
        dumps="data/sim/dumps/simulated",
        # The few thousand points that no camera sees lie next to the car: see augment.scale.
        scale=(0.6, 1.05),
        pairs=(32_768, 65_536),
        superpoints=(512, 2048),
    )
    _use_adam(config, 4e-3)
    config.total_steps = 300
    if arg == "sim-long":
        # Twice the streets, seven times past each.
        config.total_steps = 1344
        config.data.update(root="data/sim-long", dumps="data/sim-long/dumps/simulated")
        config.run.evaluate_every_epochs = 3.5
    return config


def apply_segmentation_variant(config: ConfigDict, arg: str | None, steps: int) -> ConfigDict:
    """A stage after pre-training at the scale of the simulated drive, in `steps` steps.

    `arg` is "sim" or "sim-long"; the weights are those of configs/tmp_san.py with the same one.

    Raises:
        ValueError: there is no such variant.

    """
    if arg not in VARIANTS:
        known = ", ".join(("parametrize", *VARIANTS))
        raise ValueError(f"no variant {arg!r} of this config, there are {known}")
    _simulated_drive(config)
    _use_adam(config, 1e-3, head_learning_rate=4e-3)
    config.total_steps = steps
    root = "data/sim-long" if arg == "sim-long" else "data/sim"
    config.data.root = root
    if "labels" in config.data:
        config.data.labels = f"{root}/superpoints/simulated"
    config.init.checkpoint = f"runs/tmp_san-{arg}"
    return config


def _simulated_drive(config: ConfigDict) -> None:
    """`scripts/simulate.py --output data/sim` on two CPU cores: minutes instead of days."""
    config.batch_size = 1
    config.data.update(
        root="data/sim",
        version="v1.0-sim",
        train_split="sim_train",
        val_split="sim_val",
        # A sweep has 17,000 to 20,000 voxels; compiling a program takes as long as ten steps.
        voxels=(21_504, 36_000),
        workers=1,
    )
    config.run.update(
        log_every_steps=1,
        checkpoint_every_steps=100,
        # Beyond the end: once, at the end.
        evaluate_every_epochs=1000.0,
    )


def _use_adam(
    config: ConfigDict, learning_rate: float, head_learning_rate: float | None = None
) -> None:
    """In a few hundred steps of one sweep each SGD gets nowhere: Adam, decayed at every step."""
    config.optimizer = ConfigDict(
        {
            "name": "adam",
            "learning_rate": learning_rate,
            "head_learning_rate": placeholder(float),
            "rates_for_batch_size": 1,
            "betas": (0.9, 0.99),
            "weight_decay": 0.0,
        }
    )
    config.optimizer.head_learning_rate = head_learning_rate
    config.schedule.update(per="step", warmup_epochs=0.2)
