"""Checkpoints of the PyTorch reference systems, in and out."""

from __future__ import annotations

from uov_jax.convert.files import (
    Checkpoint,
    CheckpointMismatchError,
    load_state_dict_file,
    require_agreement,
    save_state_dict_file,
)
from uov_jax.convert.networks import (
    NetworkShape,
    find_shape,
    load_network,
    reference_voxels,
    voxel_sizes,
)
from uov_jax.convert.state_dict import (
    LoadReport,
    Refused,
    arrays_to_state_dict,
    model_to_state_dict,
    named_variables,
    state_dict_to_model,
    strip_prefixes,
)
from uov_jax.convert.transfer import Imported, export_checkpoint, import_checkpoint

__all__ = [
    "Checkpoint",
    "CheckpointMismatchError",
    "Imported",
    "LoadReport",
    "NetworkShape",
    "Refused",
    "arrays_to_state_dict",
    "export_checkpoint",
    "find_shape",
    "import_checkpoint",
    "load_network",
    "load_state_dict_file",
    "model_to_state_dict",
    "named_variables",
    "reference_voxels",
    "require_agreement",
    "save_state_dict_file",
    "state_dict_to_model",
    "strip_prefixes",
    "voxel_sizes",
]
