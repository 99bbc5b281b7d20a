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
# Of pre-training.
SLIDR = "slidr"
# The first one of a simulated drive.
SIMULATED_SCENE = "sim-0001"


def pretraining() -> ConfigDict:
    """Tri-modal pre-training as published: UOV (arXiv 2405.15286) and its released settings."""
    config = ConfigDict(
        {
            "task": "tri_modal",
            "seed": 0,
            # Sweeps a step over all devices and micro-batches together.
            "batch_size": 4,
            # Sweeps that one contrast sees; None: all of a step. The loss is the mean over these
            # shards, so that the number of devices changes nothing.
            "sweeps_per_shard": placeholder(int),
            # Whether devices may hold a shard together. They then send each other the means, words
            # and embeddings of its masks: 4 MB a sweep and step at 768 masks of 768 numbers.
            "gather_shards": False,
            # Micro-batches of whole shards that a step is worked on in, for less memory. Gradients
            # are averaged over them; batch norms see a micro-batch, so results differ a little.
            "accumulate_steps": 1,
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
                # that rise together. Each that occurs is a program to compile. None: up to six that
                # suit the training sweeps, which are looked at once and remembered; the largest of
                # pairs and superpoints is that below.
                "voxels": placeholder(tuple),
                # Where their neighbours are looked up: by the "host" workers, on the "device", or
                # "auto": on GPUs there.
                "plans": "auto",
                "pairs": (16_384, 65_536),
                # Few of them cost nothing: the smallest size holds those of most batches.
                "superpoints": (768, 2048),
                # They build batches ahead: threads, or processes for many devices. Each has up to
                # two batches in memory.
                "workers": 4,
                "worker_processes": False,
                # Seconds after which a worker that is at one batch counts as hanging.
                "worker_timeout": 600.0,
                # How many different samples may be found damaged, as a share of all training
                # samples; another one, always the same, stands for each. Each process counts those
                # that it meets, from its start on. 0: the first one ends the run.
                "skip_damaged": 0.0,
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
                # What a GPU or TPU may round factors of float32 products to: "tf32", "bfloat16".
                "precision": "float32",
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
                # Beside these, after so much time without one.
                "checkpoint_every_minutes": 15.0,
                # How many of the newest checkpoints stay, beside the best one.
                "keep_checkpoints": 3,
                # 0 for none.
                "evaluate_every_epochs": 5.0,
                # None: all.
                "validation_keyframes": placeholder(int),
                "picture_keyframes": 4,
                # In scripts/evaluate.py, let class 0 be predicted, where it counts as a miss, as
                # the reference's final script does; its validation during training forbids it.
                "predict_ignored": False,
                "tensorboard": True,
                # Project of Weights & Biases (pip install wandb); "" for none.
                "wandb_project": "",
                # The profiler writes so many steps, once the first ones are over; 0 for none.
                "profile_steps": 0,
                # "": uov_jax/xla in the user's cache directory.
                "compilation_cache": "",
            },
        }
    )
    config.sweeps_per_shard = 1
    config.optimizer.rates_for_batch_size = 4
    return config


def use_slidr_batches(config: ConfigDict) -> None:
    """Pre-train with the steps of SLidR (arXiv 2203.16258): 16 sweeps, a contrast of 4 each."""
    config.update(batch_size=16, sweeps_per_shard=4)
    config.optimizer.rates_for_batch_size = 16


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
    # One Lovász term sees all sweeps of a step, as on the one GPU of the published runs. Several
    # devices send each other logits and labels for it, some 20 MB a step of 16 sweeps.
    config.update(batch_size=16, sweeps_per_shard=None, gather_shards=True)
    config.optimizer.rates_for_batch_size = 16
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


def with_teacher(teacher: str, arg: str | None) -> ConfigDict:
    """Pre-training with a teacher's dumps, as released, with SLidR's steps, or simulated.

    Raises:
        ValueError: there is no such variant.

    """
    config = pretraining()
    config.data.dumps = f"data/dumps/{teacher}"
    if arg == SLIDR:
        use_slidr_batches(config)
        return config
    return apply_variant(config, arg, (SLIDR, *VARIANTS))


def apply_variant(
    config: ConfigDict, arg: str | None, known: tuple[str, ...] = VARIANTS
) -> ConfigDict:
    """The recipe itself for no argument, else at the scale of the simulated drive.

    Raises:
        ValueError: there is no such variant among those known.

    """
    if not arg:
        return config
    if arg not in VARIANTS:
        raise ValueError(f"no variant {arg!r} of this config, there are {', '.join(known)}")
    _simulated_drive(config)
    config.sweeps_per_shard = 1
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


def _rooms(task: str, dataset: str) -> ConfigDict:
    """What both stages of rooms share; `dataset` names folders below data, and the vocabulary."""
    return ConfigDict(
        {
            "task": task,
            "seed": 0,
            # Rooms a step over all devices and micro-batches together.
            "batch_size": 4,
            # Micro-batches that a step is worked on in, for less memory. Gradients are averaged
            # over them; batch norms and the loss's mean see a micro-batch, so results differ a
            # little.
            "accumulate_steps": 1,
            "total_epochs": 100.0,
            # Overrides total_epochs.
            "total_steps": placeholder(int),
            # Mistakes of the released code to repeat, names of uov_jax/quirks.py:
            # --config.reference_quirks="('first_step_rate',)".
            "reference_quirks": (),
            "data": {
                # Folder of scripts/prepare_rooms.py.
                "root": f"data/{dataset}/store",
                # Of scripts/fuse_features.py, or of scripts/export_features.py.
                "features": f"data/{dataset}/features",
                "vocabulary": dataset,
                "train_split": "train",
                # "" for no validation.
                "val_split": "val",
                # They build batches ahead: threads, or processes for many devices. Each has up to
                # two batches in memory.
                "workers": 4,
                "worker_processes": False,
                # Seconds after which a worker that is at one batch counts as hanging.
                "worker_timeout": 600.0,
                # How many different rooms may be found damaged, as a share of all training rooms;
                # another one, always the same, stands for each. Each process counts those that it
                # meets, from its start on. 0: the first one ends the run.
                "skip_damaged": 0.0,
            },
            "optimizer": {
                "name": "adam",
                "learning_rate": 1e-3,
                "betas": (0.9, 0.999),
                # Added to the gradient, not decoupled.
                "weight_decay": 0.0,
            },
            # Nothing here changes a parameter of the network.
            "run": {
                # The first and the last step are logged, and the last one is saved, in any case;
                # 0: nothing else.
                "log_every_steps": 50,
                "checkpoint_every_steps": 500,
                # Beside these, after so much time without one.
                "checkpoint_every_minutes": 15.0,
                # How many of the newest checkpoints stay, beside the best one.
                "keep_checkpoints": 3,
                # 0 for none.
                "evaluate_every_epochs": 1.0,
                # None: all of the split with labels.
                "validation_rooms": placeholder(int),
                "tensorboard": True,
                # Project of Weights & Biases (pip install wandb); "" for none.
                "wandb_project": "",
                # The profiler writes so many steps, once the first ones are over; 0 for none.
                "profile_steps": 0,
                # "": uov_jax/xla in the user's cache directory.
                "compilation_cache": "",
            },
        }
    )


def specialisation(dataset: str) -> ConfigDict:
    """ESS with the released settings of 3DSS-VLG (arXiv 2407.09826)."""
    config = _rooms("ess", dataset)
    config.batch_size = 24
    config.total_epochs = 150.0
    # Folder of scripts/make_pseudo_labels.py, made of the same features.
    config.data.labels = f"data/{dataset}/pseudo_labels"
    # A room's share of a step, of the points that views saw; several times each where it has fewer.
    # 24 rooms of 768 numbers a point are 1.5 GB, of which every worker holds up to two batches.
    config.data.points = 40_000
    config.data.workers = 2
    config.model = ConfigDict(
        {
            # The inner layer has an embedding's size over this.
            "reduction": 4,
            # Of the feature that comes in.
            "share_kept": 0.05,
        }
    )
    config.optimizer.update(learning_rate=3e-3, weight_decay=4e-4)
    config.schedule = ConfigDict(
        {"name": "step", "per": "epoch", "warmup_epochs": 0.0, "step_epochs": 20, "gamma": 0.7}
    )
    return config


def distillation(dataset: str) -> ConfigDict:
    """ESG with the released settings of 3DSS-VLG, which are those of OpenScene's distillation."""
    config = _rooms("esg", dataset)
    # Rooms that are moved by one offset, and cut by `most_voxels` together; None: all of a step, as
    # on the one GPU of the published runs. Devices hold whole shards. The loss counts the voxels of
    # all devices alike in any case.
    config.sweeps_per_shard = placeholder(int)
    config.data.features = f"data/{dataset}/specialised"
    config.data.update(
        # Metres; three times the same number.
        voxel_size=(0.02, 0.02, 0.02),
        cylindrical=False,
        # How often every room comes in an epoch.
        loop=5,
        # Rotation, scale and a random offset; elastic distortion; flips; changes of colours.
        rotate=True,
        elastic=True,
        flip=True,
        colors=True,
        # Smallest and largest size of a batch's arrays, a room, with a few sizes between. Each that
        # occurs is a program to compile.
        voxels=(40_000, 500_000),
        # Where the rooms of a shard have more voxels than so many a room on the average, the
        # largest of them are cut to a part, another one in every epoch; 0: never.
        most_voxels=250_000,
    )
    # In scripts/evaluate.py: the words to judge by, a folder of features or a file of embeddings by
    # the same teacher; "" for those of `features`, which may be "" then.
    config.data.text = ""
    # ScanNet's scannetv2-labels.combined.tsv, whose numbers a submission has.
    config.data.label_table = ""
    # In scripts/evaluate.py, how often a room is turned and scaled by chance and looked at; scores
    # are summed. 0: once, as it is.
    config.run.repeats = 5
    config.model = ConfigDict(
        {
            "variant": "minkunet18a",
            # None: the variant's own, 0.1.
            "batch_norm_momentum": placeholder(float),
            # Of the residual branches; None: as above.
            "block_batch_norm_momentum": placeholder(float),
            # "bfloat16" for activations and products; parameters and sums stay float32.
            "dtype": "float32",
            # What a GPU or TPU may round factors of float32 products to: "tf32", "bfloat16".
            "precision": "float32",
        }
    )
    config.optimizer.learning_rate = 1e-3
    config.schedule = ConfigDict(
        {"name": "poly", "per": "step", "warmup_epochs": 0.0, "power": 0.9}
    )
    return config


def simulated_rooms(config: ConfigDict, features: str) -> ConfigDict:
    """A stage at the scale of the rooms of `scripts/simulate_rooms.py`, on two CPU cores.

    They have ScanNet's classes. `features` is the name of their folder.
    """
    config.batch_size = 2
    config.data.update(
        root="data/sim-rooms/store",
        features=f"data/sim-rooms/{features}",
        vocabulary="scannet",
        workers=1,
    )
    config.run.log_every_steps = 1
    # Beyond the end: once, at the end.
    config.run.evaluate_every_epochs = 1000.0
    if config.task == "ess":
        config.data.update(labels="data/sim-rooms/pseudo_labels", points=10_000)
        config.total_steps = 300
    else:
        config.model.variant = "minkunet14a"
        # A room has 4,000 to 7,000 voxels of 10 cm; in so few steps distortions and changes of
        # colours cost more than they bring.
        config.data.update(
            voxel_size=(0.1, 0.1, 0.1),
            voxels=(7_168, 13_312),
            most_voxels=13_000,
            loop=1,
            elastic=False,
            colors=False,
        )
        config.optimizer.update(learning_rate=3e-3, betas=(0.9, 0.99))
        config.total_steps = 1500
    return config


def apply_ess_variant(config: ConfigDict, arg: str | None) -> ConfigDict:
    """ESS as released for no argument, as the paper states it, or on simulated rooms.

    Raises:
        ValueError: there is no such variant.

    """
    if arg == "paper":
        config.batch_size = 16
        config.total_epochs = 80.0
    elif arg == "sim":
        simulated_rooms(config, "features")
    elif arg:
        raise ValueError(f"no variant {arg!r} of this config, there are paper, sim")
    return config


def apply_esg_variant(config: ConfigDict, arg: str | None) -> ConfigDict:
    """ESG as released for no argument, of plain features, of the smaller network, or simulated.

    Raises:
        ValueError: there is no such variant.

    """
    known = ("14a", "plain", "14a-plain", "sim", "sim-plain")
    if arg and arg not in known:
        raise ValueError(f"no variant {arg!r} of this config, there are {', '.join(known)}")
    parts = arg.split("-") if arg else []
    if "14a" in parts:
        config.model.variant = "minkunet14a"
    if "plain" in parts:
        config.data.features = config.data.features.replace("specialised", "features")
    if "sim" in parts:
        simulated_rooms(config, config.data.features.rpartition("/")[2])
    return config
