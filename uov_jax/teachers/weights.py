"""Official weight files of the 2D teachers: strict loading, their hash, and where to get them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from uov_jax.checkpoints.files import load_state_dict_file
from uov_jax.errors import InputError, MissingFileError

HALVES = (torch.float16, torch.bfloat16)


class WeightsError(InputError):
    """A weight file is not the official one; the message names the file and the tensor."""


@dataclasses.dataclass(frozen=True)
class OfficialFile:
    """A weight file as its authors publish it.

    Attributes:
        name: of the file.
        page: address of the authors' page that links to it.
        bytes: its approximate size.

    """

    name: str
    page: str
    bytes: float

    def __str__(self) -> str:
        return f"{self.name} ({self.bytes / 1e9:.2f} GB), which its authors publish at {self.page}"


def require_files(
    teacher: str, paths: Sequence[Path], official: Sequence[OfficialFile]
) -> tuple[Path, ...]:
    """The paths, one for each official file.

    Raises:
        MissingFileError: a file is missing; says what it is, where its authors publish it and how
            large it is.
        InputError: more or fewer paths than files.

    """
    wanted = "\n".join(f"  {file}" for file in official)
    if len(paths) != len(official):
        error = InputError if paths else MissingFileError
        raise error(
            f"the teacher {teacher!r} needs {len(official)} weight file(s), {len(paths)} given; "
            f"download and name after --weights, in this order:\n{wanted}"
        )
    for path, file in zip(paths, official, strict=True):
        if not Path(path).is_file():
            raise MissingFileError(
                f"{path}: no such weight file; the teacher {teacher!r} needs there:\n  {file}"
            )
    return tuple(Path(path) for path in paths)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file of torch.save or safetensors, by name; nothing in it is run.

    Raises:
        MissingFileError, InputError: see `uov_jax.checkpoints.files.load_state_dict_file`.

    """
    arrays = load_state_dict_file(path).state_dict
    return {name: torch.tensor(array) for name, array in arrays.items()}


def load_weights(
    module: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    place: str | Path,
    *,
    ignored: Sequence[str] = (),
) -> None:
    """Give a module exactly the tensors of an official file, and put it into evaluation mode.

    The module may stand on the "meta" device (`with torch.device("meta")`), so that nothing is
    drawn at random first. The tensors are taken over, not copied.

    Args:
        module: its `state_dict` says which names, shapes and dtypes are expected.
        tensors: float16 and bfloat16 are widened where float32 is expected, which is exact.
        place: the file, for messages.
        ignored: beginnings of names that the file may have and inference has no use for.

    Raises:
        WeightsError: a tensor is missing, is not expected, or has another shape or dtype.

    """
    expected = module.state_dict()
    given = {name: value for name, value in tensors.items() if not name.startswith(tuple(ignored))}
    _same_names(expected, given, place)
    state = {name: _checked(name, given[name], expected[name], place) for name in expected}
    module.load_state_dict(state, strict=True, assign=True)
    module.requires_grad_(False).eval()


def weights_hash(paths: Sequence[Path]) -> str:
    """sha256 of a file's bytes; of several, of their digests in order."""
    digests = []
    for path in paths:
        with open(path, "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256"))
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()


def _same_names(expected: Mapping[str, Any], given: Mapping[str, Any], place: str | Path) -> None:
    for wrong, what in [
        (sorted(expected.keys() - given.keys()), "tensor {!r} is missing"),
        (sorted(given.keys() - expected.keys()), "tensor {!r} is not one of this network"),
    ]:
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise WeightsError(
                f"{place}: {what.format(wrong[0])}{more}, expected the {len(expected)} tensors of "
                "the official file"
            )


def _checked(
    name: str, found: torch.Tensor, expected: torch.Tensor, place: str | Path
) -> torch.Tensor:
    if found.shape != expected.shape:
        raise WeightsError(
            f"{place}: tensor {name!r} has the shape {tuple(found.shape)}, expected "
            f"{tuple(expected.shape)}"
        )
    if expected.dtype == torch.float32 and found.dtype in HALVES:
        return found.float()
    if found.dtype != expected.dtype:
        raise WeightsError(
            f"{place}: tensor {name!r} is of {found.dtype}, expected {expected.dtype}"
        )
    return found
