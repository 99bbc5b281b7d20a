"""Checkpoint files of PyTorch trainers: torch.save's, .safetensors, and .npz without pickles."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uov_jax.errors import InputError, MissingFileError, MissingPackageError
from uov_jax.files import replacing

# Keys under which trainers keep the network: SLidR and UOV, Lightning, others.
CONTAINERS = ("model_points", "state_dict", "model")
_CONFIG = "__config__"


@dataclass(frozen=True)
class StoredNetwork:
    """A file's tensors by their names in it, and the run's config where the file has one."""

    path: Path
    state_dict: dict[str, np.ndarray]
    config: dict[str, Any] | None


def load_state_dict_file(path: str | os.PathLike[str]) -> StoredNetwork:
    """Read a checkpoint by its ending: .pt / .pth / .ckpt / .bin (torch), .safetensors, .npz.

    Nothing is unpickled beyond tensors and plain containers. bfloat16 tensors become float32.

    Raises:
        MissingFileError: no such file.
        InputError: unknown ending, unreadable or no tensors inside; names the file.
        MissingPackageError: torch or safetensors is needed and not installed.

    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"no checkpoint at {path}")
    readers = {
        ".pt": _read_torch,
        ".pth": _read_torch,
        ".ckpt": _read_torch,
        ".bin": _read_torch,
        ".safetensors": _read_safetensors,
        ".npz": _read_npz,
    }
    if path.suffix not in readers:
        raise InputError(f"{path}: unknown ending {path.suffix!r}, expected {', '.join(readers)}")
    state_dict, config = readers[path.suffix](path)
    if not state_dict:
        raise InputError(f"{path}: no tensors inside, expected a state_dict")
    return StoredNetwork(path, state_dict, config)


def save_state_dict_file(
    path: str | os.PathLike[str],
    state_dict: Mapping[str, np.ndarray],
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint that `load_state_dict_file` and the reference's own loaders read.

    .pt / .pth hold `{"model_points": state_dict, "config": config}` as SLidR and UOV do; .npz and
    .safetensors hold the tensors and the config as JSON. Written to a temporary name, then renamed.

    Raises:
        InputError: unknown ending; a config that JSON cannot hold.
        MissingPackageError: torch or safetensors is needed and not installed.

    """
    path = Path(path)
    writers = {
        ".pt": _write_torch,
        ".pth": _write_torch,
        ".safetensors": _write_safetensors,
        ".npz": _write_npz,
    }
    if path.suffix not in writers:
        raise InputError(f"{path}: unknown ending {path.suffix!r}, expected {', '.join(writers)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        writers[path.suffix](temporary, dict(state_dict), config)
    return path


def _read_torch(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    torch = _import("torch", path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"{path}: not readable as tensors and plain containers, which is all that is loaded "
            f"from a checkpoint ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: found a {type(content).__name__}, expected a state_dict")
    tensors = next((content[k] for k in CONTAINERS if isinstance(content.get(k), Mapping)), content)
    state_dict = {
        # A parameter carries a gradient, which numpy does not.
        str(name): (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
        for name, value in tensors.items()
        if isinstance(value, torch.Tensor)
    }
    config = content.get("config")
    return state_dict, dict(config) if isinstance(config, Mapping) else None


def _write_torch(
    path: Path, state_dict: dict[str, np.ndarray], config: Mapping[str, Any] | None
) -> None:
    torch = _import("torch", path)
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in state_dict.items()}
    content: dict[str, Any] = {"model_points": tensors}
    if config is not None:
        content["config"] = dict(config)
    torch.save(content, path)


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    _import("safetensors", path)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            state_dict = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error
    return state_dict, _config_from_json(path, metadata.get(_CONFIG))


def _write_safetensors(
    path: Path, state_dict: dict[str, np.ndarray], config: Mapping[str, Any] | None
) -> None:
    _import("safetensors", path)
    from safetensors.numpy import save_file

    metadata = None if config is None else {_CONFIG: json.dumps(dict(config))}
    # Not np.ascontiguousarray, which gives a scalar an axis.
    save_file({k: np.asarray(v, order="C") for k, v in state_dict.items()}, path, metadata)


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    try:
        # np.load leaves the file open if it is no archive, so it is opened here.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not an .npz of plain arrays ({error})") from error
    config = content.pop(_CONFIG, None)
    return content, _config_from_json(path, None if config is None else str(config))


def _write_npz(
    path: Path, state_dict: dict[str, np.ndarray], config: Mapping[str, Any] | None
) -> None:
    extra = {} if config is None else {_CONFIG: np.array(json.dumps(dict(config)))}
    np.savez(path, allow_pickle=False, **state_dict, **extra)


def _config_from_json(path: Path, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: its config is not JSON ({error})") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: its config is a {type(config).__name__}, expected an object")
    return config


def _import(package: str, path: Path) -> Any:
    try:
        return __import__(package)
    except ImportError as error:
        raise MissingPackageError(
            f"{path.suffix} files need the package {package!r}: pip install {package}"
        ) from error
