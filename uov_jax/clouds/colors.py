"""Colours as files store them, as bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uov_jax.clouds.cloud import CloudError

ROUNDING = 1e-5  # by which fractions may leave 0 to 1


def packed_colors(values: np.ndarray, place: str) -> np.ndarray:
    """uint8[N, 3] of PCL's `rgb` and `rgba`: red, green, blue in the low bytes of 32 bits.

    The bits count, whatever the type is called: PCL keeps them in a float.

    Raises:
        CloudError: they are not of 32 bits.

    """
    if values.dtype.itemsize != 4:
        raise CloudError(
            f"{place}: packed colours of {values.dtype}, expected 32 bits a point (float32, uint32)"
        )
    bits = np.ascontiguousarray(values, values.dtype.newbyteorder("=")).view(np.uint32)
    return np.stack([(bits >> shift).astype(np.uint8) for shift in (16, 8, 0)], axis=1)


def byte_colors(
    channels: np.ndarray | Sequence[np.ndarray], place: str
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Colours as bytes, and what was assumed of them.

    Bytes stay as they are, and so do whole numbers up to 255 of other types; 16 bits lose the lower
    8, fractions are parts of 255. Numbers that are not finite are black.

    Args:
        channels: [N, 3], or red, green and blue [N].
        place: for messages.

    Returns:
        uint8[N, 3], or None for 16 bits that are 0 throughout, which LAS files have where nothing
        was seen in colour; and sentences.

    Raises:
        CloudError: they are neither.

    """
    table = channels if isinstance(channels, np.ndarray) else np.stack(channels, axis=1)
    if table.dtype == np.uint8 or not table.size:
        return table.astype(np.uint8), ()
    if table.dtype.kind == "f":
        table = np.where(np.isfinite(table), table, 0)
    least, most = table.min(), table.max()
    if table.dtype == np.uint16:
        if not most:
            return None, ("the colours are 0 throughout: taken as missing",)
        if most > 255:
            return (table >> 8).astype(np.uint8), ()
        return table.astype(np.uint8), ("the colours are taken as 0 to 255, not as 0 to 65535",)
    if table.dtype.kind == "f" and least >= -ROUNDING and most <= 1 + ROUNDING:
        return np.rint(np.clip(table.astype(np.float64), 0, 1) * 255).astype(np.uint8), ()
    if least < 0 or most > 255 or not (table == np.floor(table)).all():
        raise CloudError(
            f"{place}: colours of {table.dtype} from {least:g} to {most:g}, expected bytes, "
            "16 bits, fractions 0 to 1, or whole numbers 0 to 255"
        )
    return table.astype(np.uint8), ()
