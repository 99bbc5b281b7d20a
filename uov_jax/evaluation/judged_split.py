"""What an evaluation asks of a stage: the sweeps of a split, and one class per voxel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from flax import nnx

from uov_jax.checkpoints.agreement import VoxelSettings
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.submission import LabelFormat
from uov_jax.evaluation.scoring import SWEEPS, Scoring


class JudgedSplit(Protocol):
    """A split of a dataset, judged with networks of one kind.

    Attributes:
        title: what is judged.
        split: of the dataset.
        classes: names of all classes, the first one ignored.
        colors: uint8[C, 3], RGB of each.
        ahead: the axis of the points along which the vehicle goes, "x" or "y".
        voxels: what the networks were trained on.
        label_format: the dataset's.
        scoring: how its scans are scored.
        endings: of the columns that `judge` gives for a network, each appended to its name.
        given: names of the labellings that samples bring along, judged without any network.
        smooths: whether AFI is of such scans.
        unit: what a scan is called, in the plural: "sweeps" or "rooms".

    """

    title: str
    split: str
    classes: tuple[str, ...]
    colors: np.ndarray
    ahead: str
    voxels: VoxelSettings
    label_format: LabelFormat
    scoring: Scoring
    endings: tuple[str, ...]
    given: tuple[str, ...]
    smooths: bool
    unit: str

    def __len__(self) -> int:
        """Number of sweeps."""
        ...

    def token(self, index: int) -> str:
        """What names a sweep in messages, and in the names of files."""
        ...

    def has_labels(self, index: int) -> bool:
        """Whether a sweep has true labels; no file is opened."""
        ...

    def sample(self, index: int) -> dict[str, Any]:
        """One whole sweep; threads may ask for several at once.

        `inputs`, the network's arguments by name; `inverse` int32[N], its row of every point;
        `points` float32[N, 4 or more]; `truth` uint8[N] or None; `seen` bool[N] or None;
        `teacher_label` uint8[N] (0 for none) or None; `token`; `given` uint8[N] by name, for each
        of `given`; what the scoring asks for.
        """
        ...

    def keyframe(self, index: int) -> Keyframe | None:
        """The cameras that belong to a sweep, None where the dataset has none."""
        ...

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        """The network."""
        ...

    def require_network(self, path: str | Path) -> None:
        """InputError if a checkpoint's network cannot be judged here, though it fits the recipe."""
        ...

    def classify(self, output: jax.Array) -> jax.Array:
        """uint8[rows]: the class of every row of the network's output; it is compiled.

        Or whatever `judge` makes classes of.
        """
        ...

    def judge(self, ask: Callable[[Any], Any], sample: Mapping[str, Any]) -> Any:
        """What a network says of a sample, as `judging.ClassesOfRows` gives it.

        `ask` gives, for a network's inputs, what `classify` makes of its output.
        """
        ...

    def probabilities(self, output: jax.Array) -> jax.Array:
        """float32[rows, C]: of every class, the largest that of `classify`; it is compiled."""
        ...

    def smooth(
        self,
        points: np.ndarray,
        classes: np.ndarray,
        afi_points: int | None,
        probabilities: np.ndarray | None,
    ) -> np.ndarray:
        """uint8[N]: classes uint8[N] of the points float32[N, 3 or more] as AFI smooths them.

        `afi_points` are `FlatInteraction.points`, None for the dataset's own; `probabilities`
        float32[N, C] as `smooth_labels` takes them, None for the published method.
        """
        ...


class OneClassARow:
    """What splits have in common whose networks give one class a row, and are scored as sweeps."""

    scoring = SWEEPS
    endings: tuple[str, ...] = ("",)
    unit = "sweeps"
    given: tuple[str, ...] = ()
    smooths = True

    def require_network(self, path: str | Path) -> None:
        """Nothing is asked of a network but that it fits the recipe."""
        del path

    def judge(self, ask: Callable[[Any], Any], sample: Mapping[str, Any]) -> Any:
        """The class of every row."""
        return ask(sample["inputs"])
