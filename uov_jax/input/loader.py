"""The input pipeline: batches in a shuffled order, built by workers, resumable at any step."""

from __future__ import annotations

import dataclasses
import sys
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
_ORDER, _AUGMENTATION = 1, 2

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

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return len(self.source) // (self.sweeps * self.devices * self.hosts)

    def __len__(self) -> int:
        """Steps of the run."""
        return sys.maxsize if self.epochs is None else self.steps_per_epoch * self.epochs

    def indices(self, step: int) -> np.ndarray:
        """int64[devices, sweeps]: the samples of a step on this host."""
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        order = _generator(self.seed, _ORDER, epoch).permutation(len(self.source))
        local = self.sweeps * self.devices
        first = (step_of_epoch * self.hosts + self.host) * local
        return order[first : first + local].reshape(self.devices, self.sweeps)

    def __getitem__(self, step: int) -> Batch | Failure:
        """Build the batch of a step, or say why that cannot be done."""
        try:
            return self.batch(step)
        except Exception as error:
            return Failure(error)

    def largest(self, step: int) -> Batch:
        """The batch of a step in arrays of the largest size that a batch may have."""
        largest = self.capacities and self.capacities.largest()
        return dataclasses.replace(self, capacities=largest).batch(step)

    def batch(self, step: int) -> Batch:
        """Build the batch of a step."""
        epoch = step // self.steps_per_epoch
        samples = [
            [
                self.source.sample(
                    int(index), _generator(self.seed, _AUGMENTATION, epoch, int(index))
                )
                for index in row
            ]
            for row in self.indices(step)
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

    def starting_at(self, step: int) -> Iterator[Batch]:
        """The batches from a step on; neither workers nor their number decide which they are.

        Raises:
            InputError: the shared memory is too small for the batches of worker processes.

        """
        if self._processes and self._workers and step < len(self.steps):
            check_room(self.steps.largest(step), self._workers)
        for batch in self._grain(step):
            if isinstance(batch, Failure):
                raise batch.error
            yield batch

    def _grain(self, step: int) -> Iterator[Batch | Failure]:
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

    def __iter__(self) -> Iterator[Batch]:
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
) -> TrainBatches:
    """Shuffled, augmented batches, deterministic given the seed and resumable at any step.

    Args:
        source: the samples.
        batch_size_per_device: samples a device.
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
    )
    if steps.steps_per_epoch < 1:
        raise InputError(
            f"{len(source)} samples do not fill one batch of {batch_size_per_device} samples x "
            f"{num_devices} devices x {num_hosts} hosts: make the batch smaller"
        )
    return TrainBatches(steps, workers, processes)
