"""What training clouds look like, and whether another cloud looks like them.

A network sees numbers, not units: a cloud in millimetres, with y upward, or with intensities of
another scale is labelled without any error, and wrongly. So some figures of the training clouds are
kept with a network and compared with those of every cloud that it is asked about.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uov_jax.clouds.cloud import AS_STORED, TURNS, Reading

LAYER = 0.25  # metres; the ground is the layer of so much height with the most points
INNER = (1.0, 99.0)  # percent of the points; the rest are outliers
# By how much a figure may differ. Sweeps of one sensor differ by less than half of these.
LARGER = 8.0  # times the extent of training, either way
FLATTER = 0.4  # times as flat along another axis than upward
BRIGHTER = 8.0  # times the intensity
HIGHER = 1.0  # metres between the sensor's heights above ground
DENSER = 6.0  # times the points a voxel
FULL_SCALES = (1.0, 255.0, 1023.0, 4095.0, 65535.0)  # of a sensor's intensities
UNITS = {1000.0: "millimetre", 100.0: "centimetre"}  # by how many make a metre


@dataclasses.dataclass(frozen=True)
class CloudFigures:
    """Figures of one cloud, or the medians of several.

    Attributes:
        extent: metres between the 1st and the 99th percentile of x, y and z.
        ground: metres, the middle height of the fullest layer of `LAYER` metres.
        points: number of points.
        points_per_voxel: mean; NaN where it is not known.
        intensity: its 99th percentile, NaN where there is none.

    """

    extent: tuple[float, float, float]
    ground: float
    points: float
    points_per_voxel: float = np.nan
    intensity: float = np.nan

    def as_json(self) -> dict[str, Any]:
        """Plain values; NaN is None."""
        found = dataclasses.asdict(self) | {"extent": list(self.extent)}
        return {name: None if value != value else value for name, value in found.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CloudFigures:
        """Of what `as_json` gives; KeyError, TypeError or ValueError for anything else."""
        x, y, z = (float(value) for value in content["extent"])
        rest = {
            name: np.nan if content[name] is None else float(content[name])
            for name in ("ground", "points", "points_per_voxel", "intensity")
        }
        return cls((x, y, z), **rest)


def figures_of(
    xyz: np.ndarray, intensity: np.ndarray | None = None, voxels: int | None = None
) -> CloudFigures:
    """The figures of a cloud.

    Args:
        xyz: float32[N, 3], metres, at least one point, all finite.
        intensity: float32[N], or None.
        voxels: that it has as the network sees it; None where nobody counted.

    """
    low, high = np.percentile(xyz, INNER, axis=0).astype(float)
    x, y, z = (high - low).tolist()
    bright = np.nan if intensity is None else float(np.percentile(intensity, INNER[1]))
    per_voxel = np.nan if voxels is None else len(xyz) / voxels
    return CloudFigures((x, y, z), fullest_layer(xyz[:, 2]), len(xyz), per_voxel, bright)


def medians(figures: Sequence[CloudFigures]) -> CloudFigures:
    """The median of every figure of at least one cloud."""
    rows = np.array([(*f.extent, *dataclasses.astuple(f)[1:]) for f in figures], float)
    x, y, z, *rest = np.median(rows, axis=0).tolist()
    return CloudFigures((x, y, z), *rest)


def fullest_layer(heights: np.ndarray) -> float:
    """Metres: the middle of the layer of `LAYER` metres that holds the most of heights [N]."""
    layers, counts = np.unique(np.floor(heights / LAYER), return_counts=True)
    return float((layers[np.argmax(counts)] + 0.5) * LAYER)


def differences(
    xyz: np.ndarray,
    intensity: np.ndarray | None,
    trained: CloudFigures,
    sensor: bool,
    reading: Reading = AS_STORED,
    lift: float = 0.0,
) -> list[str]:
    """In what a cloud does not look like training clouds, each with the option that mends it.

    Args:
        xyz: float32[N, 3], metres, at least one point, all finite.
        intensity: float32[N], or None where it is not looked at.
        trained: the training clouds' figures.
        sensor: whether the origin is the sensor, so that heights can be compared.
        reading: how the cloud was read: the options named are those to give in their place.
        lift: metres by which it is higher than it was read.

    Returns:
        Sentences; none where nothing is amiss. Where the unit is wrong that is all.

    """
    own = figures_of(xyz, intensity)
    if unit := _unit(own, trained, reading.scale):
        return [unit]
    found = []
    if sensor and (away := _away(xyz, trained)):
        found.append(away)
    if axis := _other_axis(xyz, own, trained, sensor):
        found.append(_turned(axis, reading.up))
    elif sensor and abs(own.ground - trained.ground) > HIGHER:
        found.append(
            f"the ground lies {-own.ground:.1f} m below the sensor, in training "
            f"{-trained.ground:.1f} m: move the points along z so that it agrees (--lift "
            f"{lift + trained.ground - own.ground:.1f})"
        )
    if bright := _intensity(own, trained, reading.intensity_scale):
        found.append(bright)
    return found


def density_difference(points_per_voxel: float, trained: CloudFigures) -> str | None:
    """A sentence if a cloud has many more or fewer points a voxel than training clouds."""
    ratio = points_per_voxel / trained.points_per_voxel
    if not (ratio > DENSER or ratio < 1 / DENSER):
        return None
    return (
        f"it has {points_per_voxel:.2g} points a voxel, training clouds "
        f"{trained.points_per_voxel:.2g}: --scale, if its unit is not the metre; else labels may "
        "be worse than on clouds of such a density"
    )


def _unit(own: CloudFigures, trained: CloudFigures, given: float) -> str | None:
    ratio = float(np.linalg.norm(own.extent) / max(float(np.linalg.norm(trained.extent)), 1e-6))
    if 1 / LARGER <= ratio <= LARGER:
        return None
    size = " x ".join(f"{side:.4g}" for side in own.extent)
    usual = " x ".join(f"{side:.4g}" for side in trained.extent)
    if not ratio:
        return f"all its points lie at one place, training clouds measure {usual} m"
    # A small cloud in millimetres is as large as a large one in centimetres: both are named.
    near = sorted(UNITS, key=lambda factor: abs(math.log(ratio / factor)))
    options = [
        f"if its unit is the {UNITS[factor]}, give --scale {given / factor:g}"
        for factor in near
        if 1 / LARGER <= ratio / factor <= LARGER
    ]
    if options:
        return f"it measures {size} m, training clouds {usual} m: {'; '.join(options)}"
    return (
        f"it measures {size} m, training clouds {usual} m: if its unit is not the metre, give the "
        "metres of one (--scale)"
    )


def _away(xyz: np.ndarray, trained: CloudFigures) -> str | None:
    """A sentence if the points do not lie around the origin, where a sweep has its sensor."""
    distance = float(np.linalg.norm(np.median(xyz[:, :2], axis=0)))
    if distance <= max(trained.extent[:2]):
        return None
    return (
        f"the middle of its points lies {distance:,.0f} m from the origin, where a sweep has its "
        "sensor: subtract the sensor's position from the points"
    )


def _other_axis(
    xyz: np.ndarray, own: CloudFigures, trained: CloudFigures, sensor: bool
) -> str | None:
    """The axis that points upward, if another does: the world is flat, with most points below."""
    flat = int(np.argmin(own.extent))
    if int(np.argmin(trained.extent)) != 2:
        return None
    heights = xyz[:, flat]
    low, high = np.percentile(heights, INNER)
    below = fullest_layer(heights) < (low + high) / 2
    if flat == 2:
        high_ground = trained.ground < -HIGHER / 2 and own.ground > HIGHER / 2
        return "-z" if sensor and high_ground and not below else None
    if own.extent[flat] > FLATTER * own.extent[2]:
        return None
    return ("" if below else "-") + "xyz"[flat]


def _turned(up: str, given: str) -> str:
    """A sentence: `up` is an axis of the cloud, which was read with `given` upward."""
    axis, sign = TURNS[given]["xyz".index(up[-1])]
    up = "xyz"[axis] if sign == (-1 if up.startswith("-") else 1) else f"-{'xyz'[axis]}"
    # "-y" alone would be an option.
    option = f"--up={up}" if up.startswith("-") else f"--up {up}"
    return f"{given} does not seem to point upward, but {up}: if so, give {option}"


def _intensity(own: CloudFigures, trained: CloudFigures, given: float) -> str | None:
    if not (own.intensity == own.intensity and trained.intensity > 0):
        return None
    if own.intensity <= 0:
        return (
            f"all intensities are 0 or less, in training they go up to {trained.intensity:.3g}: "
            "is this column the intensity (--columns)?"
        )
    ratio = own.intensity / trained.intensity
    if 1 / BRIGHTER <= ratio <= BRIGHTER:
        return None
    scale = _full_scale(trained.intensity) / _full_scale(own.intensity)
    # Not where the sensor's own full scale does not bring the two together.
    if not 1 / BRIGHTER <= ratio * scale <= BRIGHTER:
        scale = float(f"{1 / ratio:.2g}")
    return (
        f"intensities go up to {own.intensity:.3g}, in training to {trained.intensity:.3g}: give "
        f"--intensity-scale {given * scale:.6g}"
    )


def _full_scale(intensity: float) -> float:
    """What a sensor counts to whose intensities go up to this: 1, 8, 10, 12 or 16 bits."""
    return next((full for full in FULL_SCALES if intensity <= full), intensity)
