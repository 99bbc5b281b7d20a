"""The input pipeline: batches in a shuffled order, built by workers, resumable at any step."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import math
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import tqdm

from uov_jax.daemon_threads import PATIENCE, TIMEOUT, DaemonThreads
from uov_jax.errors import InputError
from uov_jax.input.batching import Allocate, Batch, Capacities, pad_batch, size_of
from uov_jax.input.builders import Builders, Built, WorkerError


class SampleSource(Protocol):
    """A dataset of training samples (such as `TriModalSource`)."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def name(self, index: int) -> str:
        """What names a sample in messages."""
        ...

    def sample(self, index: int, rng: np.random.Generator) -> Any:
        """One augmented sample; all randomness comes from the generator."""
        ...


# They stand after the seed, so that the kinds of stream never coincide: numpy pads entropy with
# zeros, which would make (seed, epoch) and (seed, epoch, 0) one stream.
_ORDER, _AUGMENTATION, _REPLACEMENT, _LOOK = 1, 2, 3, 4
SAMPLES_TO_COMPARE = 32
MOST_REPLACEMENTS = 100  # that are tried for one damaged sample
NAMES_SHOWN = 3

Collate = Callable[..., Batch]
# Which size a step's batches shall have, of the step and the least one that holds this host's: the
# largest that any host needs.
Agree = Callable[[int, int], int]


@dataclasses.dataclass(frozen=True)
class Steps:
    """Batches by step number: a function of the settings and the number alone.

    The order of an epoch is a permutation drawn from (seed, epoch), the augmentation of a sample
    from (seed, epoch, index): neither depends on the workers, nor on the number of devices or
    hosts. What does not fill a batch at the end of an epoch is left out of that epoch.

    Attributes:
        source: the samples.
        collate: makes a batch of samples per device, of capacities, in arrays of an `Allocate`.
        sweeps: samples a device, in each micro-batch.
        devices: local devices.
        host, hosts: this host's number and how many there are; they read disjoint shares.
        capacities: handed to `collate`; None where batches have one shape alone.
        seed: of order and augmentation.
        epochs: length of the run, None for no end.
        micro_batches: batches of which a step consists; with several of them a tuple is built.
        replaces_damaged: another sample stands for one that is damaged, the same one every time;
            else its error is raised.

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
    replaces_damaged: bool = False

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
        order = _order(self.seed, epoch, len(self.source))
        first = step_of_epoch * self._sweeps_of_a_step
        spread = order[first : first + self._sweeps_of_a_step].reshape(
            self.micro_batches, self.hosts, self.devices, self.sweeps
        )
        return spread[:, self.host]

    def names(self, step: int) -> str:
        """The samples of a step on this host, for messages."""
        return ", ".join(self.source.name(int(index)) for index in self.indices(step).flat)

    def batch(self, step: int) -> Any:
        """The batch of a step, or the tuple of its micro-batches where there are several."""
        return self.build(step).batch

    def build(self, step: int, allocate: Allocate | None = None) -> Built:
        """The batch of a step, and which samples were damaged; errors as those of the source."""
        epoch = step // self.steps_per_epoch
        damaged: dict[int, str] = {}
        batches = tuple(
            self.collate(
                [[self._sample(epoch, int(index), damaged) for index in row] for row in rows],
                self.capacities,
                allocate=np.empty if allocate is None else allocate,
            )
            for rows in self.indices(step)
        )
        return Built(batches[0] if self.micro_batches == 1 else batches, damaged)

    def _sample(self, epoch: int, index: int, damaged: dict[int, str]) -> Any:
        """A sample of an epoch, or the one that stands for it."""
        if not self.replaces_damaged:
            return self._augmented(epoch, index)
        for number in self._candidates(epoch, index):
            try:
                return self._augmented(epoch, number)
            except InputError as error:
                damaged[number] = str(error)
        raise InputError(
            f"{self.source.name(index)}: damaged, and so are {MOST_REPLACEMENTS} others that were "
            f"tried in its place: {damaged[index]}"
        )

    def _candidates(self, epoch: int, index: int) -> Iterator[int]:
        """The sample itself, and those that may stand for it, one after the other."""
        yield index
        others = _generator(self.seed, _REPLACEMENT, epoch, index)
        for _ in range(MOST_REPLACEMENTS):
            yield int(others.integers(len(self.source)))

    def _augmented(self, epoch: int, index: int) -> Any:
        return self.source.sample(index, _generator(self.seed, _AUGMENTATION, epoch, index))


def _generator(*entropy: int) -> np.random.Generator:
    return np.random.default_rng(entropy)


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, samples: int) -> np.ndarray:
    """int64[samples]: the order of an epoch, drawn once for all its steps."""
    return _generator(seed, _ORDER, epoch).permutation(samples)


class TrainBatches:
    """Training batches, built ahead by workers from any step on."""

    def __init__(
        self,
        steps: Steps,
        workers: int,
        processes: bool,
        skip_damaged: float = 0.0,
        timeout: float = TIMEOUT,
    ) -> None:
        """Nothing starts before batches are asked for.

        Args:
            steps: the batches.
            workers: how many build them; 0 for the caller's own thread.
            processes: they are processes, not threads.
            skip_damaged: so many different samples, as a share of all of the source, may be found
                damaged in one iteration, and have others in their place. Every `starting_at`
                counts anew, and of several hosts each what it builds itself.
            timeout: seconds after which a worker that builds one batch counts as hanging.

        """
        self.steps = dataclasses.replace(steps, replaces_damaged=skip_damaged > 0)
        self.steps_per_epoch = steps.steps_per_epoch
        self._workers, self._processes = workers, processes
        self._most_damaged = math.ceil(skip_damaged * len(steps.source))
        self._timeout = timeout

    def starting_at(self, step: int, agree: Agree | None = None) -> Batches:
        """The batches from a step on; neither workers nor their number decide which they are.

        Args:
            step: the first one.
            agree: asked in the caller's thread, once a step in order and when its batch is built:
                which size the batch shall have. None: each takes the smallest that holds it, so
                several hosts must agree.

        """
        return Batches(
            self.steps,
            step,
            workers=self._workers,
            processes=self._processes,
            agree=agree,
            most_damaged=self._most_damaged,
            timeout=self._timeout,
        )

    def __iter__(self) -> Batches:
        """The batches from the first step on."""
        return self.starting_at(0)

    def fingerprint(self) -> str:
        """A word for some samples' content and the sizes; of equal files it is the same.

        Where damaged samples are let pass, that one is damaged is its content.
        """
        source = self.steps.source
        found = zlib.crc32(repr(self.steps.capacities).encode())
        for index in np.linspace(0, len(source) - 1, min(len(source), SAMPLES_TO_COMPARE)):
            try:
                sample = source.sample(int(index), _generator(self.steps.seed, _LOOK, int(index)))
            except InputError:
                if not self.steps.replaces_damaged:
                    raise
                found = zlib.crc32(b"damaged", found)
                continue
            for name, value in sorted(vars(sample).items()):
                content = value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
                found = zlib.crc32(name.encode() + content, found)
        return f"{found:08x}"


class Batches(Iterator[Any]):
    """Batches one after the other, in order, while the following ones are built.

    Attributes:
        wait_seconds: how long the caller waited for the last one to be built, without agreeing.
        damaged: the samples that others stand for, by name, and what is wrong with them; of those
            that were built here, since the first step of this iteration.

    """

    def __init__(
        self,
        steps: Steps,
        first: int,
        *,
        workers: int,
        processes: bool,
        agree: Agree | None,
        most_damaged: int,
        timeout: float,
    ) -> None:
        """Take the settings of `TrainBatches.starting_at`; nothing starts yet."""
        self.wait_seconds = 0.0
        self.damaged: dict[str, str] = {}
        self._steps, self._next, self._submitted = steps, first, first
        self._agree, self._most_damaged, self._timeout = agree, most_damaged, timeout
        self._builders, self._processes = Builders(steps, processes), processes
        # Each worker has a batch in its hands and a finished one, for when others take longer.
        self._window = 2 * workers
        self._waiting: deque[concurrent.futures.Future[Built]] = deque()
        self._pool = None
        if workers:
            self._pool = DaemonThreads(workers, "batches")

    def __next__(self) -> Any:
        """The next batch; errors as those of the source, and WorkerError."""
        if self._next >= len(self._steps):
            self.close()
            raise StopIteration
        began = time.perf_counter()
        try:
            built = self._built()
            self.wait_seconds = time.perf_counter() - began
            self._note(built.damaged)
            batch = self._agreed(built.batch)
        except BaseException:
            self.close()
            raise
        self._next += 1
        return batch

    def close(self) -> None:
        """End the workers; batches that were handed out stay."""
        self._next = self._submitted = len(self._steps)
        self._waiting.clear()
        self._builders.stop()
        # Threads whose processes were ended come at once, others with the end of the program at
        # the latest.
        if self._pool is None or self._pool.close(PATIENCE if self._processes else 0):
            self._builders.close()

    def __del__(self) -> None:
        """End the workers of batches that nobody takes any more."""
        # What leads to them lets go by itself, and may have done so: `close` would close whatever
        # has its descriptors by now.
        self._builders.stop()
        if self._pool is not None:
            self._pool.close(0)

    def _built(self) -> Built:
        if self._pool is None:
            return self._builders.build(self._next)
        while self._submitted < min(self._next + self._window, len(self._steps)):
            self._waiting.append(self._pool.submit(self._builders.build, self._submitted))
            self._submitted += 1
        future = self._waiting.popleft()
        if not concurrent.futures.wait([future], self._timeout).done:
            raise self._hanging()
        return future.result()

    def _agreed(self, batch: Any) -> Any:
        """The same in arrays of the size that all hosts agree on."""
        if self._agree is None:
            return batch
        capacities = self._steps.capacities
        if capacities is None:
            self._agree(self._next, 0)
            return batch
        several = batch if isinstance(batch, tuple) else (batch,)
        size = self._agree(self._next, max(size_of(each, capacities) for each in several))
        padded = tuple(pad_batch(each, capacities, size) for each in several)
        return padded if isinstance(batch, tuple) else padded[0]

    def _hanging(self) -> WorkerError:
        builder = self._builders.builder_of(self._next) or "no worker"
        return WorkerError(
            f"{builder} has built the batch of step {self._next:,} for {self._timeout:g} s without "
            f"an end (config.data.worker_timeout), of {self._steps.names(self._next)}: the file "
            "system hangs, or the machine"
        )

    def _note(self, damaged: dict[int, str]) -> None:
        """Say which samples were damaged, once each; InputError where there are too many."""
        for index, error in damaged.items():
            name = self._steps.source.name(index)
            if name in self.damaged:
                continue
            self.damaged[name] = error
            count, most = len(self.damaged), self._most_damaged
            if count > most:
                first = "; ".join([*self.damaged.values()][:NAMES_SHOWN])
                raise InputError(
                    f"{count} of {len(self._steps.source):,} samples are damaged, more than the "
                    f"{most} that config.data.skip_damaged lets pass: {first}"
                )
            tqdm.tqdm.write(
                f"Left out, the {count}. damaged sample of at most {most}: {error}", sys.stderr
            )


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
    skip_damaged: float = 0.0,
    timeout: float = TIMEOUT,
) -> TrainBatches:
    """Shuffled, augmented batches, deterministic given the seed and resumable at any step.

    Args:
        source: the samples.
        collate: makes a batch of samples per device.
        batch_size_per_device: samples a device, in each micro-batch.
        num_devices: local devices; every array of a batch has them as its first axis.
        capacities: shapes that batches may have; None where they have one shape.
        seed: of order and augmentation.
        num_epochs: None goes on for ever.
        workers: threads that build batches ahead; 0 builds in the caller's thread.
        processes: workers are processes instead, where threads wait for each other.
        host: number of this host.
        num_hosts: how many there are.
        micro_batches: of a step; several make tuples of batches.
        skip_damaged: share of the samples that may be damaged, as `TrainBatches` takes it.
        timeout: seconds after which a worker that builds one batch counts as hanging.

    Raises:
        InputError: the source does not fill a single batch, or a setting is out of range.

    """
    if not 0 <= skip_damaged < 1:
        raise InputError(
            f"config.data.skip_damaged = {skip_damaged}: expected a share of the samples, from 0 "
            "to below 1"
        )
    if workers < 0 or not timeout > 0:
        raise InputError(
            f"config.data.workers = {workers} and config.data.worker_timeout = {timeout}: expected "
            "no negative number, and seconds"
        )
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
    return TrainBatches(steps, workers, processes, skip_damaged, timeout)
