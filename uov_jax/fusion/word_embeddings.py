"""Files of words' embeddings: an npz with the array `embeddings`, a row for every word."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from uov_jax.contents import parse_npz
from uov_jax.errors import InputError, MissingFileError, UserError
from uov_jax.files import DAMAGE, read_bytes

TEXT_EMBEDDINGS = "text_embeddings.npz"
_UNIT = 1e-3  # how far from 1 the length of a unit row in half precision may be


def read_embeddings(
    path: Path, words: int | None = None, embedding_size: int | None = None
) -> np.ndarray:
    """float32[W, D]: a unit row for every word; rows of another length are made of length 1.

    Args:
        path: the file.
        words: W, any for None.
        embedding_size: D, any for None.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is damaged, of another shape, or a row has no direction; names it.

    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no file of embeddings of words there")
    try:
        rows = np.asarray(parse_npz(read_bytes(path))["embeddings"], np.float32)
    except UserError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path}: not a file with embeddings of words: {error}") from error
    wanted = (words, embedding_size)
    fits = rows.ndim == 2 and all(
        expected in (None, found) for expected, found in zip(wanted, rows.shape, strict=True)
    )
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    if not fits or not (np.isfinite(norms) & (norms > 0)).all():
        number, size = ("any" if expected is None else expected for expected in wanted)
        raise InputError(
            f"{path}: expected embeddings [{number} words, {size} numbers], each with a direction, "
            f"found {list(rows.shape)}" + " with zeros or numbers that are not finite" * fits
        )
    # Rows that are of length 1 already keep their bits.
    return rows if np.allclose(norms, 1, rtol=0, atol=_UNIT) else rows / norms
