"""A street's centre line: positions along it and beside it, and the way back from the map."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

STEP = 0.25  # metres between stored samples of the centre line

Floats = NDArray[np.float64]


class Street:
    """A smooth line of piecewise constant curvature.

    A place is given as ``along`` (metres from the line's zero) and ``beside`` (metres to the left).
    """

    def __init__(
        self,
        first: float,
        last: float,
        bends: tuple[tuple[float, float, float], ...] = (),
        start: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> None:
        """Lay a line from ``first`` to ``last`` that passes ``start`` (x, y, heading) at along = 0.

        ``bends`` are (from, to, curvature in 1/m, positive to the left).
        """
        self.first, self.last = first, last
        self._along = np.arange(first, last + STEP, STEP)
        curvature = np.zeros(len(self._along))
        for begin, end, value in bends:
            curvature[(self._along >= begin) & (self._along < end)] = value
        zero = int(np.argmin(np.abs(self._along)))
        heading = np.cumsum(curvature) * STEP
        self._heading = heading - heading[zero] + start[2]
        middle = self._heading - 0.5 * STEP * curvature
        x, y = np.cumsum(np.cos(middle)) * STEP, np.cumsum(np.sin(middle)) * STEP
        self._x, self._y = x - x[zero] + start[0], y - y[zero] + start[1]

    def heading(self, along: ArrayLike) -> Floats:
        """Direction of the line in radians."""
        return np.interp(np.asarray(along, np.float64), self._along, self._heading)

    def at(self, along: ArrayLike, beside: ArrayLike) -> tuple[Floats, Floats, Floats]:
        """Map position x, y and heading of a place."""
        heading = self.heading(along)
        where = np.asarray(along, np.float64)
        x = np.interp(where, self._along, self._x) - np.asarray(beside) * np.sin(heading)
        y = np.interp(where, self._along, self._y) + np.asarray(beside) * np.cos(heading)
        return x, y, heading

    def locate(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Along and beside of map positions; beyond its ends the line goes straight on."""
        rough = slice(None, None, round(4 / STEP))
        nearest = np.empty(x.shape, np.int64)
        for row in range(x.shape[0]):
            distance = (x[row, :, None] - self._x[rough]) ** 2
            distance += (y[row, :, None] - self._y[rough]) ** 2
            nearest[row] = distance.argmin(axis=1)
        along = self._along[rough][nearest]
        for _ in range(7):  # converges by |beside| / radius each time
            cx, cy, heading = self.at(along, 0.0)
            ahead = (x - cx) * np.cos(heading) + (y - cy) * np.sin(heading)
            along = np.clip(along + ahead, self.first, self.last)
        cx, cy, heading = self.at(along, 0.0)
        ahead = (x - cx) * np.cos(heading) + (y - cy) * np.sin(heading)
        beside = (y - cy) * np.cos(heading) - (x - cx) * np.sin(heading)
        return along + ahead, beside

    def extent(self, margin: float) -> tuple[float, float, float, float]:
        """x0, x1, y0, y1 of the line with a margin around."""
        return (
            float(self._x.min() - margin),
            float(self._x.max() + margin),
            float(self._y.min() - margin),
            float(self._y.max() + margin),
        )
