"""What the training loop asks of a stage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
from flax import nnx

from uov_jax.checkpoints.card import NetworkCard
from uov_jax.evaluation.share import Share

# Maps what a network is asked with (arguments by name, such as `features` float32[N, C] of level 0
# and their `plan`) to its output [N, D], in evaluation mode.
Predict = Callable[[Mapping[str, Any]], jax.Array]

# Called once before every step in all processes, with its number from 0 and the size that its batch
# needs here, of sizes numbered as they rise; gives the size that all shall have. It may raise.
Agree = Callable[[int, int], int]


class BatchIterator(Iterator[Any], Protocol):
    """Batches one after the other; closed at the end if it has `close`.

    Attributes:
        wait_seconds: how long the caller waited for the last one to be built. What the processes
            agree on before its step is no part of that.

    """

    wait_seconds: float


class Batches(Protocol):
    """Endless training batches.

    Attributes:
        steps_per_epoch: batches in an epoch.

    """

    steps_per_epoch: int

    def starting_at(self, step: int, agree: Agree | None = None) -> BatchIterator:
        """The batches from a step on, counted from 0.

        Args:
            step: the first.
            agree: what processes of a run agree on before each step.

        """
        ...

    def fingerprint(self) -> str:
        """A word for what some of the training samples contain, the same on all hosts."""
        ...


class Task(Protocol):
    """What the training loop asks of a stage.

    Attributes:
        title: what is trained.
        unit: what a batch is counted in, in the plural: "sweeps" or "rooms".

    """

    title: str
    unit: str

    def identity(self) -> dict[str, str]:
        """What a checkpoint must have been trained on to fit: teacher, vocabulary and the like."""
        ...

    def card(self) -> NetworkCard | None:
        """What checkpoints say of the network, so that it labels clouds alone; None if it cannot.

        Some of the training clouds are looked at.
        """
        ...

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        """The network; its batch norms average over the devices of `axis_name`."""
        ...

    def initialize(self, model: nnx.Module) -> None:
        """Put the weights that a new run starts from into a network fresh from the seed, in place.

        Called before anything is written; what is missing or does not fit is an error here.
        """
        ...

    def train_batches(self, num_devices: int) -> Batches:
        """Endless batches, stacked over this process's devices.

        With `config.accumulate_steps` above 1 each is a tuple of so many micro-batches. They are a
        function of the step alone, so a run that is gone on with needs its step only.
        """
        ...

    def loss(
        self, model: nnx.Module, batch: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Scalar loss and scalar metrics of one device's batch.

        The step averages both, and the gradient, over the devices of `axis_name`. A loss that is a
        mean over rows, of which a device may have few or none, counts those of all devices by it,
        and a term that sees sweeps of several devices gathers them. So neither depends on how many
        devices there are; see `training/geometry.py`.
        """
        ...

    def evaluate(
        self, predict: Predict, directory: Path, step: int, share: Share
    ) -> dict[str, float]:
        """Validate; may write pictures and tables into the directory and print.

        Each of several processes judges its share, and all return the metrics of the whole.
        """
        ...

    def score(self, metrics: dict[str, float]) -> float | None:
        """The number that decides which checkpoint is best (higher is better), if there is one."""
        ...

    def parameter_group(self, path: str) -> str:
        """Group of a parameter such as `block1.0.conv1.kernel`: "trunk", "head" or "frozen"."""
        ...


def fingerprint(content: bytes) -> str:
    """sha256 of what a run is bound to, as one short word of `Task.identity`."""
    return hashlib.sha256(content).hexdigest()
