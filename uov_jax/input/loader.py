"""The input pipeline: batches in a shuffled order, built by workers, resumable at any step."""

from __future__ import annotations

import dataclasses
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import grain
import numpy as np
from absl import flags

from uov_jax.errors import InputError
from uov_jax.input.batching import Batch, Capacities
from uov_jax.input.shared_memory import check_room


class SampleSource(Protocol):
    """A dataset of training samples (such as `TriModalSource`)."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def sample(self, index: int, rng: np.random.Generator) -> Any:
        """One augmented sample; all randomness comes from the generator."""
        ...


# They stand after the seed, so that the two kinds of stream never coincide: numpy pads entropy with
# zeros, which would make (seed, epoch) and (seed, epoch, 0) one stream.
_ORDER, _AUGMENTATION, _LOOK = 1, 2, 3
SAMPLES_TO_COMPARE = 8

Collate = Callable[[Sequence[Sequence[Any]], Any], Batch]


@dataclasses.dataclass(frozen=True)
class Steps:
    """Batches by step number: a function of the settings and the number alone.

    The order of an epoch is a permutation drawn from (seed, epoch), the augmentation of a sample
    from (seed, epoch, index): neither depends on the workers, nor on the number of devices or
    hosts. What does not fill a batch at the end of an epoch is left out of that epoch.

    Attributes:
        source: the samples.
        collate: makes a batch of samples per device.
        sweeps: samples a device.
        devices: local devices.
        micro_batches: batches of which a step consists; with several of them a tuple is built.
        host, hosts: this host's number and how many there are; they read disjoint shares.
        capacities: handed to `collate`; None where batches have one shape alone.
        seed: of order and augmentation.
        epochs: length of the run, None for no end.

    """

    source: SampleSource
    collate: Collate
    sweeps: int
    devices: int
    host: int
    hosts: int
    capacities: Capacities | None
    seed: int
    epochs: int | None
    micro_batches: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Whole steps in an epoch."""
        return len(self.source) // self._sweeps_of_a_step

    @property
    def _sweeps_of_a_step(self) -> int:
        return self.sweeps * self.devices * self.hosts * self.micro_batches

    def __len__(self) -> int:
        """Steps of the run."""
        return sys.maxsize if self.epochs is None else self.steps_per_epoch * self.epochs

    def indices(self, step: int) -> np.ndarray:
        """int64[micro_batches, devices, sweeps]: the samples of a step on this host.

        Of the whole step they are one sequence, whatever it is spread over: the micro-batches take
        equal parts of it, in each the hosts, and of these the devices.
        """
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        order = _generator(self.seed, _ORDER, epoch).permutation(len(self.source))
        first = step_of_epoch * self._sweeps_of_a_step
        spread = order[first : first + self._sweeps_of_a_step].reshape(
            self.micro_batches, self.hosts, self.devices, self.sweeps
        )
        return spread[:, self.host]

    def __getitem__(self, step: int) -> Any:
        """Build the batch of a step, or say why that cannot be done."""
        try:
            return self.batch(step)
        except Exception as error:
            return Failure(error)

    def largest(self, step: int) -> Any:
        """The batch of a step in arrays of the largest size that a batch may have."""
        largest = self.capacities and self.capacities.largest()
        return dataclasses.replace(self, capacities=largest).batch(step)

    def batch(self, step: int) -> Any:
        """Build the batch of a step, or the tuple of its micro-batches where there are several."""
        epoch = step // self.steps_per_epoch
        batches = tuple(self._collated(epoch, indices) for indices in self.indices(step))
        return batches[0] if self.micro_batches == 1 else batches

    def _collated(self, epoch: int, indices: np.ndarray) -> Batch:
        samples = [
            [
                self.source.sample(
                    int(index), _generator(self.seed, _AUGMENTATION, epoch, int(index))
                )
                for index in row
            ]
            for row in indices
        ]
        return self.collate(samples, self.capacities)


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why there is no batch. Grain would add lines of its own to the error's message."""

    error: Exception


def _generator(*entropy: int) -> np.random.Generator:
    return np.random.default_rng(entropy)


class TrainBatches:
    """Training batches, built ahead by workers from any step on."""

    def __init__(self, steps: Steps, workers: int, processes: bool) -> None:
        """Nothing starts before batches are asked for.

        Args:
            steps: the batches.
            workers: how many build them; 0 for the caller's own thread.
            processes: they are processes, not threads.

        """
        self.steps = steps
        self.steps_per_epoch = steps.steps_per_epoch
        self._workers, self._processes = workers, processes

    def starting_at(
        self, step: int, agree: Callable[[int, int], int] | None = None
    ) -> Iterator[Any]:
        """The batches from a step on; neither workers nor their number decide which they are.

        Args:
            step: the first.
            agree: called before every step with its number and the size of its batch; all batches
                of several hosts have the one size 0.

        Raises:
            InputError: the shared memory is too small for the batches of worker processes.

        """
        if self._processes and self._workers and step < len(self.steps):
            check_room(self.steps.largest(step), self._workers)
        for number, batch in enumerate(self._grain(step), step):
            if isinstance(batch, Failure):
                raise batch.error
            if agree is not None:
                agree(number, 0)
            yield batch

    def fingerprint(self) -> str:
        """A word for what some samples contain, by which hosts see that they have equal files."""
        source, found = self.steps.source, 0
        for index in np.linspace(0, len(source) - 1, min(len(source), SAMPLES_TO_COMPARE)):
            sample = source.sample(int(index), _generator(self.steps.seed, _LOOK, int(index)))
            for name, value in sorted(vars(sample).items()):
                content = value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
                found = zlib.crc32(name.encode() + content, found)
        return f"{found:08x}"

    def _grain(self, step: int) -> Iterator[Any]:
        dataset = grain.MapDataset.source(self.steps)[step:]
        if self._processes and self._workers:
            if not flags.FLAGS.is_parsed():  # Grain asks for its flags when it starts a process
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(
                num_workers=self._workers, per_worker_buffer_size=1
            )
            one_by_one = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
            return iter(dataset.to_iter_dataset(one_by_one).mp_prefetch(options))
        threads = self._workers
        read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads and threads + 1)
        return iter(dataset.to_iter_dataset(read))

    def __iter__(self) -> Iterator[Any]:
        """The batches from the first step on."""
        return self.starting_at(0)


def train_batches(
    source: SampleSource,
    *,
    collate: Collate,
    batch_size_per_device: int,
    num_devices: int,
    capacities: Capacities | None,
    seed: int,
    num_epochs: int | None = None,
    workers: int = 2,
    processes: bool = False,
    host: int = 0,
    num_hosts: int = 1,
    micro_batches: int = 1,
) -> TrainBatches:
    """Shuffled, augmented batches, deterministic given the seed and resumable at any step.

    Args:
        source: the samples.
        batch_size_per_device: samples a device, in each micro-batch.
        num_devices: local devices; every array of a batch has them as its first axis.
        capacities: shapes that batches may have, with several hosts the largest ones alone; None
            where they have one shape.
        seed: of order and augmentation.
        num_epochs: None goes on for ever.
        workers: threads that build batches ahead; 0 builds in the caller's thread.
        processes: workers are processes instead, where threads wait for each other.
        host: number of this host.
        num_hosts: how many there are.
        collate: makes a batch of samples per device.
        micro_batches: of a step; several make tuples of batches.

    Raises:
        InputError: the source does not fill a single batch.

    """
    if num_hosts > 1 and capacities is not None:
        capacities = capacities.largest()
    steps = Steps(
        source=source,
        collate=collate,
        sweeps=batch_size_per_device,
        devices=num_devices,
        host=host,
        hosts=num_hosts,
        capacities=capacities,
        seed=seed,
        epochs=num_epochs,
        micro_batches=micro_batches,
    )
    if steps.steps_per_epoch < 1:
        raise InputError(
            f"{len(source)} samples do not fill one batch of {batch_size_per_device} samples x "
            f"{num_devices} devices x {num_hosts} hosts x {micro_batches} micro-batches: make the "
            "batch smaller"
        )
    return TrainBatches(steps, workers, processes)
