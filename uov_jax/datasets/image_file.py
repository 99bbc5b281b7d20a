"""Camera images and depth images as files."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import DAMAGE, read_bytes

# Pillow knows others, of which some are programs that it lets other programs run.
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 2**26  # more than any camera has; few bytes may unpack to as many as they like
# What Pillow raises on a damaged image.
UNDECODABLE = (
    *DAMAGE,
    AttributeError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


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
        with opened_image(content) as image:
            yield image
    except InputError:
        raise
    except UNDECODABLE as error:
        raise InputError(f"{path}: corrupt or truncated image: {error}") from error


@contextlib.contextmanager
def opened_image(content: bytes, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """A file's image, not decoded yet; `UNDECODABLE` errors for others, or for very large ones."""
    with Image.open(io.BytesIO(content), formats=formats) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"an image of {image.width} x {image.height} pixels")
        yield image
