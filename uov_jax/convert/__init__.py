"""Checkpoints of the PyTorch reference systems, in and out."""

from __future__ import annotations

from uov_jax.convert.files import (
    Checkpoint,
    CheckpointMismatchError,
    load_state_dict_file,
    require_agreement,
    save_state_dict_file,
)
from uov_jax.convert.state_dict import (
    LoadReport,
    Refused,
    model_to_state_dict,
    named_variables,
    state_dict_to_model,
    strip_prefixes,
)

__all__ = [
    "Checkpoint",
    "CheckpointMismatchError",
    "LoadReport",
    "Refused",
    "load_state_dict_file",
    "model_to_state_dict",
    "named_variables",
    "require_agreement",
    "save_state_dict_file",
    "state_dict_to_model",
    "strip_prefixes",
]
