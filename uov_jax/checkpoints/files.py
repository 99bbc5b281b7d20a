"""Checkpoint files of PyTorch trainers: torch.save's, .safetensors, and .npz without pickles."""

from __future__ import annotations

import functools
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from uov_jax.contents import is_zip, parse_json, parse_npz
from uov_jax.errors import InputError, MissingFileError, MissingPackageError
from uov_jax.files import DAMAGE, replacing
from uov_jax.pickled import is_legacy_tar, is_pickled, read_pickled

# Keys under which trainers keep the network: SLidR and UOV, Lightning and OpenScene, the adapter of
# 3DSS-VLG, others.
CONTAINERS = ("model_points", "state_dict", "model_state_dict", "model")
_CONFIG = "__config__"
CARD = "uov_jax_card"  # in the config of an exported file, and in the record of a checkpoint


@dataclass(frozen=True)
class StoredNetwork:
    """A file's tensors by their names in it, and the run's config where the file has one.

    Attributes:
        path: the file, or the folder of a checkpoint.
        state_dict: tensors; those of a file may be read-only.
        config: of the run; None where the file has none.
        left_out: what else was in the file and was not read, with its place.
        card: what `uov_jax.checkpoints.card` reads; None where there is none.
        identity: what a run was trained on; empty for files.

    """

    path: Path
    state_dict: dict[str, np.ndarray]
    config: dict[str, Any] | None
    left_out: tuple[str, ...] = ()
    card: dict[str, Any] | None = None
    identity: Mapping[str, str] = field(default_factory=dict)


def load_state_dict_file(path: str | os.PathLike[str]) -> StoredNetwork:
    """Read a checkpoint by its content: torch.save's formats, plain pickles, .safetensors, .npz.

    The ending says nothing: `*.pth.tar` are torch.save's files too. Of pickles, tensors, arrays and
    plain containers are read without PyTorch and without running anything (`uov_jax.pickled`).
    Numbers of types that numpy does not have of its own, such as bfloat16, become float32.

    Raises:
        MissingFileError: no such file.
        InputError: of another kind, unreadable, without tensors, or with a number that is not
            finite; names the file and what it seems to be.
        MissingPackageError: safetensors is needed and not installed.

    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"no checkpoint at {path}")
    stored = _reader(path)(path)
    if not stored.state_dict:
        raise InputError(f"{path}: no tensors inside, expected a state_dict")
    tensors = {name: _as_numpy_has_it(path, name, v) for name, v in stored.state_dict.items()}
    require_finite(tensors, path)
    card = (stored.config or {}).pop(CARD, None)
    return replace(stored, state_dict=tensors, card=card if isinstance(card, dict) else None)


def _as_numpy_has_it(path: Path, name: str, tensor: np.ndarray) -> np.ndarray:
    """float32 of the types of ml_dtypes; InputError for what is no number."""
    if tensor.dtype.kind in "biufc":
        return tensor
    try:
        ml_dtypes.finfo(tensor.dtype)
    except ValueError as error:
        raise InputError(
            f"{path}: {name} is of the type {tensor.dtype}, expected numbers: an .npz does not "
            "keep bfloat16, write float32"
        ) from error
    return tensor.astype(np.float32)


def require_finite(tensors: Mapping[str, np.ndarray], place: object) -> None:
    """InputError naming the first tensor with a number that is not finite, and how many have one.

    Args:
        tensors: by name.
        place: the file or folder, for the message.

    """
    wrong = [
        name for name, value in tensors.items() if value.dtype.kind in "fc" and not _finite(value)
    ]
    if wrong:
        raise InputError(
            f"{place}: {len(wrong)} of {len(tensors)} tensors have numbers that are not finite, "
            f"the first is {wrong[0]}: the training that wrote it had broken down; take an earlier "
            "checkpoint of it"
        )


def _finite(value: np.ndarray) -> bool:
    # A sum of halves may overflow, and the mask of a large tensor takes memory: a part at a time.
    flat = value.reshape(-1)
    step = 1 << 22
    return all(np.isfinite(flat[i : i + step]).all() for i in range(0, flat.size, step))


def _reader(path: Path) -> Callable[[Path], StoredNetwork]:
    """What reads a file, by its content."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
    if is_zip(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except DAMAGE as error:
            raise InputError(f"{path}: a damaged zip archive, copy it again: {error}") from error
        if any(name.endswith("data.pkl") for name in names):
            return _read_pickled
        if all(name.endswith(".npy") for name in names):
            return _read_npz
        raise InputError(
            f"{path}: a zip archive with {', '.join(names[:3])}, not a checkpoint: unpack it first"
        )
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and 2 <= header <= size - 8:
        return _read_safetensors
    if is_legacy_tar(start):
        return _read_pickled
    if start[257:262] == b"ustar":
        raise InputError(f"{path}: a tar archive: unpack it, and give the checkpoint in it")
    if start[:2] == b"\x1f\x8b":
        raise InputError(f"{path}: compressed by gzip: unpack it first")
    if is_pickled(start):
        return _read_pickled
    raise InputError(
        f"{path}: not a checkpoint of torch.save, safetensors or numpy, or cut off: {size} bytes, "
        f"which begin with {start[:8]!r}"
    )


def save_state_dict_file(
    path: str | os.PathLike[str],
    state_dict: Mapping[str, np.ndarray],
    config: Mapping[str, Any] | None = None,
    container: str = CONTAINERS[0],
) -> Path:
    """Write a checkpoint that `load_state_dict_file` and the reference's own loaders read.

    .pt / .pth hold `{"model_points": state_dict, "config": config}` as SLidR and UOV do, .pth.tar
    `{"state_dict": {"net3d.NAME": tensor}}` as OpenScene and 3DSS-VLG; .npz and .safetensors hold
    the tensors and the config as JSON. Written to a temporary name, then renamed.

    Args:
        path: the file; its ending says which.
        state_dict: tensors by name.
        config: kept beside them.
        container: the key of the tensors in .pt / .pth.

    Raises:
        InputError: unknown ending; a config that JSON cannot hold.
        MissingPackageError: torch or safetensors is needed and not installed.

    """
    path = Path(path)
    torch = functools.partial(_write_torch, container=container)
    writers: dict[str, Callable[..., None]] = {
        ".pth.tar": _write_openscene,
        ".pt": torch,
        ".pth": torch,
        ".safetensors": _write_safetensors,
        ".npz": _write_npz,
    }
    ending = next((ending for ending in writers if path.name.endswith(ending)), None)
    if ending is None:
        raise InputError(f"{path}: unknown ending {path.suffix!r}, expected {', '.join(writers)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        writers[ending](temporary, dict(state_dict), config)
    return path


def _read_pickled(path: Path) -> StoredNetwork:
    found = read_pickled(path)
    content = found.content
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: found a {type(content).__name__}, expected a state_dict")
    tensors = next((content[k] for k in CONTAINERS if isinstance(content.get(k), Mapping)), content)
    if not any(isinstance(value, np.ndarray) for value in tensors.values()):
        others = ", ".join(map(str, list(tensors)[:5])) or "nothing"
        more = f"; left out were {', '.join(found.left_out[:3])}" if found.left_out else ""
        raise InputError(
            f"{path}: no tensors inside, expected a state_dict at the top or under "
            f"{', '.join(map(repr, CONTAINERS))}, found {others}{more}"
        )
    state_dict = {
        str(name): np.asarray(value)
        for name, value in tensors.items()
        if isinstance(value, np.ndarray | np.generic)
    }
    config = content.get("config")
    return StoredNetwork(
        path, state_dict, dict(config) if isinstance(config, Mapping) else None, found.left_out
    )


def _write_openscene(
    path: Path, state_dict: dict[str, np.ndarray], config: Mapping[str, Any] | None
) -> None:
    named = {f"net3d.{name}": value for name, value in state_dict.items()}
    _write_torch(path, named, config, container="state_dict")


def _write_torch(
    path: Path,
    state_dict: dict[str, np.ndarray],
    config: Mapping[str, Any] | None,
    container: str,
) -> None:
    torch = _import("torch", path)
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in state_dict.items()}
    content: dict[str, Any] = {container: tensors}
    if config is not None:
        content["config"] = dict(config)
    torch.save(content, path)


def _read_safetensors(path: Path) -> StoredNetwork:
    _import("safetensors", path)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            state_dict = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, AttributeError, TypeError) as error:  # Types that it does not know.
        raise InputError(f"{path}: not a safetensors file ({error})") from error
    return StoredNetwork(path, state_dict, _config_from_json(path, metadata.get(_CONFIG)))


def _write_safetensors(
    path: Path, state_dict: dict[str, np.ndarray], config: Mapping[str, Any] | None
) -> None:
    _import("safetensors", path)
    from safetensors.numpy import save_file

    metadata = None if config is None else {_CONFIG: json.dumps(dict(config))}
    # Not np.ascontiguousarray, which gives a scalar an axis.
    save_file({k: np.asarray(v, order="C") for k, v in state_dict.items()}, path, metadata)


def _read_npz(path: Path) -> StoredNetwork:
    try:
        with path.open("rb") as stream:
            content = parse_npz(stream)
    except DAMAGE as error:
        raise InputError(f"{path}: not an .npz of plain arrays ({error})") from error
    config = content.pop(_CONFIG, None)
    found = None if config is None else str(config)
    return StoredNetwork(path, content, _config_from_json(path, found))


def _write_npz(
    path: Path, state_dict: dict[str, np.ndarray], config: Mapping[str, Any] | None
) -> None:
    extra = {} if config is None else {_CONFIG: np.array(json.dumps(dict(config)))}
    np.savez(path, allow_pickle=False, **state_dict, **extra)


def _config_from_json(path: Path, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        config = parse_json(text)
    except ValueError as error:
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
