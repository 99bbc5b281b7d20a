"""Camera images and depth images as files."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import read_bytes


def read_image(path: Path) -> np.ndarray:
    """uint8[H, W, 3]: an image as RGB.

    Raises:
        MissingFileError: there is no such file.
        InputError: it cannot be decoded; names the file.

    """
    with _opened(path) as image:
        return np.asarray(image.convert("RGB"))


def read_depth_image(path: Path) -> np.ndarray:
    """uint16[H, W]: a depth image's numbers as they are stored.

    Raises:
        MissingFileError: there is no such file.
        InputError: it cannot be decoded, or is no grey image of 16 bits; names the file.

    """
    with _opened(path) as image:
        # As libraries before Pillow 11 and after name what is 16 bits in a PNG.
        if image.mode not in ("I", "I;16", "I;16B", "I;16L"):
            raise InputError(
                f"{path}: expected a depth image of 16 bits, found Pillow's mode {image.mode!r}: "
                "8 bits or colours have lost the distances"
            )
        return np.asarray(image).astype(np.uint16)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image, from its header; errors as `read_image`."""
    with _opened(path) as image:
        return image.height, image.width


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    if not path.is_file():
        raise MissingFileError(f"{path}: no such image: is the archive unpacked completely?")
    content = read_bytes(path)
    try:
        with Image.open(io.BytesIO(content)) as image:
            yield image
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path}: corrupt or truncated image: {error}") from error
