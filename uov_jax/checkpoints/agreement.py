"""Whether a network was trained on voxels like those of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uov_jax.checkpoints.files import StoredNetwork
from uov_jax.errors import InputError

# A network only fits data that was voxelised as in its training.
MUST_AGREE = ("voxel_size", "cylindrical_coordinates")
_DEGREES = 1.0  # the reference's cylindrical voxels span one degree of azimuth, whatever their size


@dataclasses.dataclass(frozen=True)
class VoxelSettings:
    """How points become voxels, which a network must have been trained with.

    Attributes:
        size: metres; for cylindrical voxels metres of radius, degrees of azimuth, metres of height.
        cylindrical: whether they are.

    """

    size: tuple[float, float, float]
    cylindrical: bool

    def as_reference(self) -> dict[str, Any]:
        """`reference_voxels` of these."""
        return reference_voxels(self.size, self.cylindrical)


class CheckpointMismatchError(InputError):
    """A network was trained on data that was voxelised in another way."""


def voxel_settings(data: Any) -> VoxelSettings:
    """Those of a recipe's `data` section (`voxel_size` and `cylindrical`)."""
    return VoxelSettings(tuple(data.voxel_size), bool(data.cylindrical))


def require_agreement(stored: StoredNetwork, run: Mapping[str, Any]) -> tuple[str, ...]:
    """Check that the checkpoint's network was trained on voxels like the run's.

    Compares `MUST_AGREE` between the checkpoint's config and `run`; numbers to within float32.

    Returns:
        The settings that could not be compared because the checkpoint does not state them.

    Raises:
        CheckpointMismatchError: a setting differs; names the file, the setting and both values.
        KeyError: `run` lacks a setting that the checkpoint states.

    """
    config = stored.config or {}
    for key in MUST_AGREE:
        if key in config and not _equal(config[key], run[key]):
            raise CheckpointMismatchError(
                f"{stored.path}: trained with {key} = {config[key]!r}, "
                f"but this run has {key} = {run[key]!r}"
            )
    return tuple(key for key in MUST_AGREE if key not in config)


def _equal(found: Any, expected: Any) -> bool:
    if isinstance(found, bool) or isinstance(expected, bool):
        return bool(found) == bool(expected)
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return found.shape == expected.shape and bool(np.allclose(found, expected, rtol=1e-6, atol=0.0))


def reference_voxels(size: Sequence[float], cylindrical: bool) -> dict[str, Any]:
    """Voxels as the configs of SLidR and UOV state them, for `require_agreement`.

    Args:
        size: metres; for cylindrical voxels metres of radius, degrees of azimuth, metres of height.
        cylindrical: whether they are.

    Returns:
        `voxel_size`, one number in metres, and `cylindrical_coordinates`. Sizes that one number
        cannot express stay three, which agree with themselves alone.

    """
    first = float(size[0])
    expressible = np.allclose(size, voxel_sizes(first, cylindrical), rtol=1e-6, atol=0)
    return {
        "voxel_size": first if expressible else [float(side) for side in size],
        "cylindrical_coordinates": bool(cylindrical),
    }


def voxel_sizes(voxel_size: float, cylindrical: bool) -> tuple[float, float, float]:
    """The three sizes that `voxel_size` of a SLidR or UOV config stands for."""
    return (voxel_size, _DEGREES if cylindrical else voxel_size, voxel_size)
