"""The folder of one checkpoint: written by Orbax, whole or not at all, and checked when it is read.

    500/arrays/     by Orbax: arrays by name, such as `parameters/final.kernel`
    500/record/     JSON: the config, identity and versions that they come from
    500/files.json  size and checksum of every file of the arrays

Folders of earlier versions have no `files.json` and are read unchecked.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from uov_jax.errors import InputError, UserError
from uov_jax.files import PASSING, TRIES, UnreadableFileError, file_sum, write_text
from uov_jax.readable import readable_bytes

FORMAT = 1
FILES = "files.json"
_UNFINISHED = ".orbax-checkpoint-tmp"  # in the names of what Orbax has not finished
_ERROR_NUMBER = re.compile(r"os_error_code='(\d+)'")


class CheckpointError(InputError):
    """A checkpoint does not belong to this run, or cannot be read."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is not what was once written: files are missing or have another content."""


class NotSavedError(UserError, OSError):
    """A checkpoint could not be written; the message names its folder and the reason."""


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is that of one checkpoint."""
    return (folder / "arrays").is_dir()


def write_folder(
    folder: Path, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any], pause: float = 1.0
) -> None:
    """Write a checkpoint; the folder appears under its name when it is whole.

    Any one process may call it, also beside others of the same run. What may pass is tried again.

    Args:
        folder: of the checkpoint; it is not there yet.
        arrays: by name.
        record: plain values.
        pause: seconds before the second try, then twice as long each time.

    Raises:
        NotSavedError: the disk is full, or the like; nothing is left of the folder.

    """
    for number in range(1, TRIES + 1):
        try:
            _require_room(folder.parent, sum(array.nbytes for array in arrays.values()))
            with ocp.Checkpointer(_handler(), multiprocessing_options=_alone()) as checkpointer:
                content = ocp.args.Composite(
                    arrays=ocp.args.StandardSave(dict(arrays)),
                    record=ocp.args.JsonSave(dict(record)),
                )
                checkpointer.save(folder, args=content)
            break
        except Exception as error:  # Orbax raises what its storage layers raise.
            remove_unfinished(folder)
            # Orbax counts by the time of the day, which may jump.
            passes = isinstance(error, TimeoutError) or _error_number(error) in PASSING
            if not passes or number == TRIES:
                raise NotSavedError(
                    f"{folder}: this checkpoint could not be written: {_reason(error)}"
                ) from error
        time.sleep(pause * 2 ** (number - 1))
    _write_sums(folder)


def remove_unfinished(folder: Path) -> None:
    """Remove what was written of a checkpoint that did not become whole."""
    for rest in folder.parent.glob(f"{folder.name}{_UNFINISHED}*"):
        shutil.rmtree(rest, ignore_errors=True)


def is_unfinished(name: str) -> bool:
    """Whether a folder's name is that of a checkpoint which did not become whole."""
    return _UNFINISHED in name


def read_record(path: str | Path) -> dict[str, Any]:
    """What a checkpoint's folder says of its run: config, identity, versions, kernels.

    Raises:
        CheckpointError: it is of another format.
        DamagedCheckpointError: it is not what was written.
        UnreadableFileError: it cannot be read, though nothing says that it is damaged.

    """
    file = Path(path) / "record" / "metadata"
    try:
        record = json.loads(file.read_text("utf-8"))
        if record["format"] != FORMAT:
            raise CheckpointError(f"{path}: format {record['format']}, this code reads {FORMAT}")
        return record
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        _raise_unreadable(Path(path), error)
        raise DamagedCheckpointError(
            f"{file}: expected the record of a checkpoint: {_reason(error)}"
        ) from error


def read_arrays(path: str | Path, of: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Arrays of a checkpoint by name, such as `parameters/final.kernel`.

    Args:
        path: the checkpoint's folder.
        of: first parts of the names to read, such as "parameters"; all by default.

    Raises:
        CheckpointError: there is no whole checkpoint in that folder.
        DamagedCheckpointError: it is not what was written.
        UnreadableFileError: it cannot be read, though nothing says that it is damaged.

    """
    folder = Path(path).absolute()
    if not is_checkpoint(folder):
        raise CheckpointError(f"{folder}: no checkpoint; expected a folder with `arrays` in it")
    _check_sums(folder)
    try:
        return _read_arrays(folder, of)
    except Exception as error:  # Orbax raises what its storage layers raise.
        _raise_unreadable(folder, error)
        raise DamagedCheckpointError(
            f"{folder}: the arrays of this checkpoint cannot be read ({_first_line(error)})"
        ) from error


def _read_arrays(folder: Path, of: Sequence[str] | None) -> dict[str, np.ndarray]:
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone())
    with ocp.Checkpointer(handler, multiprocessing_options=_alone()) as checkpointer:
        metadata = checkpointer.metadata(folder / "arrays")
        stored = dict(getattr(metadata, "item_metadata", metadata))
        host = {
            name: np.zeros(info.shape, info.dtype)
            for name, info in stored.items()
            if of is None or name.partition("/")[0] in of
        }
        arguments = ocp.args.PyTreeRestore(host, partial_restore=True)
        arrays = checkpointer.restore(folder / "arrays", args=arguments)
    return {name: np.asarray(array) for name, array in arrays.items()}


def _alone() -> ocp.options.MultiprocessingOptions:
    """Orbax shall wait for no other process: one writes, and each reads for itself."""
    me = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
    )


def _handler() -> ocp.CompositeCheckpointHandler:
    alone = _alone()
    return ocp.CompositeCheckpointHandler(
        arrays=ocp.StandardCheckpointHandler(multiprocessing_options=alone),
        record=ocp.JsonCheckpointHandler(multiprocessing_options=alone),
        composite_options=ocp.CompositeOptions(multiprocessing_options=alone),
    )


def _require_room(folder: Path, num_bytes: int) -> None:
    """Orbax says it of each array, at length."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise OSError(
            errno.ENOSPC,
            f"{os.strerror(errno.ENOSPC)}: {readable_bytes(num_bytes)} are needed, "
            f"{readable_bytes(free)} are free there",
        )


def _write_sums(folder: Path) -> None:
    try:
        paths = sorted(path for path in (folder / "arrays").rglob("*") if path.is_file())
        sums = {path.relative_to(folder).as_posix(): file_sum(path) for path in paths}
        write_text(folder / FILES, json.dumps(sums, indent=1))
    except OSError:
        pass  # The checkpoint is whole. Without sums it is read unchecked.


def _check_sums(folder: Path) -> None:
    try:
        sums = json.loads((folder / FILES).read_text("utf-8"))
        expected = {folder / name: (int(size), int(crc)) for name, (size, crc) in sums.items()}
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError, AttributeError) as error:
        _raise_unreadable(folder, error)
        raise DamagedCheckpointError(
            f"{folder / FILES}: expected sizes and checksums of a checkpoint's files: {error}"
        ) from error
    for path, (size, crc) in expected.items():
        try:
            found = file_sum(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DamagedCheckpointError(f"{path}: this file of a checkpoint is gone") from error
        if found != (size, crc):
            what = f"{found[0]} bytes, expected {size}" if found[0] != size else "another content"
            raise DamagedCheckpointError(f"{path}: this file of a checkpoint has {what}")


def _raise_unreadable(path: Path, error: Exception) -> None:
    """Raise UnreadableFileError for what says nothing of the file's content."""
    number = _error_number(error)
    if number in PASSING or number in (errno.EACCES, errno.EPERM):
        raise UnreadableFileError(
            f"{path}: could not be read: {_reason(error)}. That is the disk's, the network's or "
            "the rights' doing; the file may be whole"
        ) from error


def _error_number(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = _ERROR_NUMBER.search(str(error))
    return int(found[1]) if found else None


def _reason(error: Exception) -> str:
    """What the operating system says, else the error's first line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    number = _error_number(error)
    return _first_line(error) if number is None else os.strerror(number)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


_NEW_FORMAT = "Metadata file does not exist"  # a warning of a file that only the newest format has


def _worth_saying(record: logging.LogRecord) -> bool:
    """Orbax logs errors, with all their traces, that it raises as well."""
    if "orbax" not in record.pathname:
        return True
    return record.levelno < logging.ERROR and not str(record.msg).startswith(_NEW_FORMAT)


logging.getLogger("absl").addFilter(_worth_saying)
