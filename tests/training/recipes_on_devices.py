"""A step of published recipes at reduced capacity on 1, 2, 4 and 8 devices; prints what came of it.

A recipe that such a number of devices cannot fill prints its refusal.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from tests.training.sharded_run import begin, small_variant
from uov_jax import compilation
from uov_jax.config import load_config
from uov_jax.errors import InputError
from uov_jax.training.parallel import Parallel

ROOT = Path(__file__).parents[2]
COUNTS = (1, 2, 4, 8)


def reduced(recipe: str, folder: Path) -> ConfigDict:
    """A recipe on small data: its batch, shards, rates and losses are the published ones."""
    config = load_config(str(ROOT / "configs" / recipe))
    sweeps = {"root": folder / "nuscenes", "train_split": "mini_train", "version": "v1.0-mini"}
    kitti = {"root": folder / "kitti", "train_split": "00"}
    rooms = {"root": folder / "store", "features": folder / "features", "vocabulary": "scannet"}
    data: dict[str, Any] = {
        "tri_modal": sweeps | {"dumps": folder / "dumps"},
        "annotation_free": sweeps | {"labels": folder / "labels"},
        "finetune": kitti if config.data.get("dataset") == "semantickitti" else sweeps,
        "ess": rooms | {"labels": folder / "room_labels", "points": 100},
        "esg": rooms | {"voxel_size": (0.2,) * 3},
    }[config.task]
    sizes = {"voxels": (2560, 2560), "pairs": (1024, 1024), "superpoints": (64, 64)}
    data |= {name: size for name, size in sizes.items() if name in config.data}
    data |= {"val_split": "", "workers": 0}
    with config.unlocked():
        config.data.update({k: str(v) if isinstance(v, Path) else v for k, v in data.items()})
        if "variant" in config.model:
            config.model.variant = small_variant()
        if "init" in config:
            config.init.checkpoint = ""
    return config


def main() -> None:
    """One JSON line for every recipe: by number of devices, the loss or the refusal."""
    folder, *recipes = sys.argv[1:]
    compilation.use_cache(str(Path(folder) / "cache"))
    for recipe in recipes:
        found: dict[int, Any] = {}
        for count in COUNTS:
            devices = Parallel(jax.local_devices()[:count])
            try:
                train, current, stream = begin(reduced(recipe, Path(folder)), devices)
            except InputError as error:
                found[count] = str(error)
                continue
            _, metrics = train(current, devices.shard(next(stream)))
            found[count] = float(devices.first(metrics)["loss"])
            assert math.isfinite(found[count])
        print(json.dumps({"recipe": recipe, "found": found}), flush=True)


if __name__ == "__main__":
    main()
