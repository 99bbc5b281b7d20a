"""What all processes of a run must have alike before its first step, as plain values by name."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

import uov_jax
from uov_jax import sparse
from uov_jax.checkpoints.run import code_versions, named_arrays
from uov_jax.config import flat_fields

# Where a host has its copy of the files, and how it reads them. What is in them is compared by
# itself.
LOCAL_FIELDS = (
    "data.root",
    "data.dumps",
    "data.features",
    "data.labels",
    "data.text",
    "data.label_table",
    "data.vocabulary",
    "data.workers",
    "data.worker_processes",
    "data.worker_timeout",
    "init.checkpoint",
    "run.compilation_cache",
)


def facts(
    config: ConfigDict,
    identity: Mapping[str, str],
    samples: str,
    start: int,
    state: Any,
    devices: list[jax.Device],
) -> dict[str, Any]:
    """All that decides about the numbers of a run, from the coarse to the fine.

    Args:
        config: the recipe.
        identity: what the task is bound to.
        samples: a fingerprint of training samples.
        start: the first step.
        state: host arrays to start from.
        devices: of this process.

    """
    fields = {f"config.{name}": value for name, value in flat_fields(config)}
    local = {f"config.{name}" for name in LOCAL_FIELDS}
    return {
        "the program": source_hash(),
        "the compiled engine": engine_hash(),
        **{f"the version of {name}": version for name, version in code_versions().items()},
        **{name: value for name, value in fields.items() if name not in local},
        **{f"the data's {name}": value for name, value in identity.items()},
        "the number of devices": len(devices),
        "the kind of devices": devices[0].device_kind,
        "the kernels": sparse.current_kernels(),
        "a look at the training samples": samples,
        "the step to begin at": start,
        "the weights to begin with": fingerprint(state),
    }


def source_hash() -> str:
    """A word for the program's own files."""
    root = Path(uov_jax.__file__).parent
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]


def engine_hash() -> str:
    """A word for the compiled extensions: those of an older build compute something else."""
    found = hashlib.sha256()
    for path in sorted(Path(uov_jax.__file__).parent.glob("_engine*.so")):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]


def fingerprint(tree: Any) -> str:
    """A word for names and contents of a tree's arrays."""
    crc = 0
    for name, array in named_arrays(tree).items():
        array = np.ascontiguousarray(array)
        crc = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), crc)
        crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc)
    return f"{crc:08x}"
