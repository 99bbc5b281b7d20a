"""Camera images as files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import UnreadableFileError, read_bytes


def read_image(path: Path) -> np.ndarray:
    """uint8[H, W, 3]: an image as RGB.

    Raises:
        MissingFileError: there is no such file.
        InputError: it cannot be decoded; names the file.

    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such image: is the archive unpacked completely?")
    try:
        with Image.open(io.BytesIO(read_bytes(path))) as image:
            return np.asarray(image.convert("RGB"))
    except UnreadableFileError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path}: corrupt or truncated image: {error}") from error
