"""A network's training step on a GPU: against the CPU's, twice for equal bits, and its time."""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from uov_jax import processors, sparse
from uov_jax.checkpoints import state
from uov_jax.command_line.gpu_report import Row
from uov_jax.command_line.gpu_speed import KINDS, median, seconds_of
from uov_jax.command_line.gpu_sweeps import batch_of, fitting_spec, moved, points, voxels
from uov_jax.command_line.gpu_values import equal_bits
from uov_jax.models.minkunet import MinkUNet
from uov_jax.training import step
from uov_jax.training.optimizer import MomentumState, sgd
from uov_jax.training.parallel import Parallel

CLASSES = 17
# How far two gradients in float32 may be apart, as a share of their largest number: each is within
# half of it of float64 (tests/models/test_float64_gradients.py).
GRADIENT, LOSS = 2e-4, 1e-5


class _Segmentation:
    """Cross-entropy on random labels: as little loss as there can be."""

    def loss(
        self, model: Any, batch: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        del axis_name
        plan, features, labels = batch
        scores = jax.nn.log_softmax(model(features, plan))
        chosen = jnp.take_along_axis(scores, labels[:, None], axis=1)
        valid = (jnp.arange(len(labels)) < plan.counts[0])[:, None]
        loss = -jnp.sum(jnp.where(valid, chosen, 0.0)) / jnp.sum(valid, dtype=jnp.float32)
        return loss, {}

    def parameter_group(self, path: str) -> str:
        del path
        return "trunk"


class Training:
    """A network that trains on clouds of one shape, on one device."""

    def __init__(
        self,
        variant: str,
        spec: sparse.PlanSpec,
        device: jax.Device,
        precision: str = "float32",
        dtype: DTypeLike = jnp.float32,
        deferred: bool = True,
    ) -> None:
        """Make the network; nothing is compiled.

        Args:
            variant: of the network.
            spec: shape of the plans.
            device: to train on.
            precision: of products.
            dtype: of activations.
            deferred: whether neighbours are looked up on the device.

        """
        self.spec, self.deferred = spec, deferred
        self.parallel = Parallel([device])
        model = MinkUNet(
            *(1, CLASSES),
            variant=variant,
            first_kernel=3,
            precision=precision,
            dtype=dtype,
            rngs=nnx.Rngs(0),
            axis_name="data",
        )
        skeleton, parameters, statistics = state.split(model)
        rate = functools.partial(jnp.full, (), 1e-3)
        optimizer = sgd(lambda _: rate(), momentum=0.9)
        task: Any = _Segmentation()
        train = step.training_step(task, skeleton, optimizer, lambda _: rate())
        self._train: Any = self.parallel.spread(train)
        self.first = jax.device_get(state.create(parameters, statistics, optimizer))
        self.start()

    def start(self) -> None:
        """Take the first weights again."""
        self._state = self.parallel.replicate(self.first)

    def batch(self, coords: np.ndarray) -> Any:
        """A batch of these voxels with made-up features and labels, on the device."""
        generator = np.random.default_rng(0)
        features = np.zeros((self.spec.capacity, 1), np.float32)
        features[: len(coords), 0] = generator.standard_normal(len(coords), np.float32)
        labels = generator.integers(0, CLASSES, self.spec.capacity).astype(np.int32)
        plan = (sparse.defer_plan if self.deferred else sparse.build_plan)(coords, self.spec)
        arrays = (plan, features, labels)
        return self.parallel.shard(jax.tree.map(lambda array: np.asarray(array)[None], arrays))

    def compile(self, batch: Any) -> None:
        """Compile the step for batches of this shape; from several threads at once if need be."""
        self._train = self._train.lower(self._state, batch).compile()

    def step(self, batch: Any) -> dict[str, jax.Array]:
        """One step further: its metrics."""
        self._state, metrics = self._train(self._state, batch)
        return metrics

    def after(self, batch: Any, steps: int) -> tuple[Any, list[float]]:
        """State and losses of so many steps from the first weights on."""
        self.start()
        losses = [float(self.step(batch)["loss"][0]) for _ in range(steps)]
        return self.parallel.first(self._state), losses

    def first_gradient(self, batch: Any) -> tuple[dict[str, np.ndarray], float]:
        """The gradient with the first weights, and the loss."""
        found, losses = self.after(batch, 1)
        # The momentum of one step: differences of weights would be rounded as the weights are.
        (momentum,) = (part for part in found.optimizer if isinstance(part, MomentumState))
        gradient: Any = momentum.buffer
        return gradient, losses[0]


def against_cpu(variant: str, voxels: np.ndarray, steps: int) -> Iterator[Row]:
    """The first step's gradient in float32 beside the CPU's, and some steps twice."""
    spec = fitting_spec(voxels)
    card = Training(variant, spec, jax.local_devices()[0])
    batch = card.batch(voxels)

    def on_cpu() -> tuple[dict[str, np.ndarray], float]:
        with sparse.use_backend("cpu"):
            training = Training(variant, spec, jax.local_devices(backend="cpu")[0], deferred=False)
            return training.first_gradient(training.batch(voxels))

    with ThreadPoolExecutor(1) as pool:
        # Its program is compiled while the other is.
        there = pool.submit(on_cpu)
        found, loss = card.first_gradient(batch)
        expected, expected_loss = there.result()
    apart = {name: _apart(found[name], value) for name, value in expected.items()}
    worst = max(apart, key=lambda name: apart[name])
    loss_apart = abs(loss - expected_loss) / abs(expected_loss)
    yield Row(
        f"{variant}, {len(voxels):,} voxels, one step beside the CPU's",
        {"loss apart": loss_apart, "worst gradient apart": apart[worst], "which": worst},
        loss_apart < LOSS and apart[worst] < GRADIENT,
    )
    runs = [card.after(batch, steps) for _ in range(2)]
    same = equal_bits(*runs)
    yield Row(
        f"{variant}, {steps} steps twice",
        {"equal bits": "yes" if same else "no", "last loss": runs[0][1][-1]},
        same and bool(np.isfinite(runs[0][1]).all()),
    )


def _apart(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))


def step_times(
    variant: str, batches: Sequence[int], most: int | None, repeats: int
) -> Iterator[Row]:
    """Milliseconds of a training step on batches of sweeps, the plan built in it.

    Args:
        variant: of the network.
        batches: sweeps of a batch.
        most: voxels of a sweep; None: all.
        repeats: steps of each.

    """
    device = jax.local_devices()[0]
    trainings = []
    for sweeps in batches:
        coords = batch_of(sweeps, most)
        spec = fitting_spec(coords)
        for precision, dtype, name in KINDS:
            training = Training(variant, spec, device, precision, dtype)
            trainings.append((sweeps, len(coords), name, training, training.batch(coords)))
    loaded = Loaded(variant, device, sorted(batches)[len(batches) // 2], most)
    compile_all([*(each[3:] for each in trainings), (loaded.training, loaded.batch(0))])
    for sweeps, number, name, training, batch in trainings:
        seconds = seconds_of(functools.partial(training.step, batch), repeats)
        yield Row(
            f"{variant}, step, {sweeps} sweep(s), {number:,} voxels, {name}",
            {
                "ms": median(seconds) * 1e3,
                "slowest, ms": max(seconds) * 1e3,
                "voxels/s": number / median(seconds),
            },
        )
    yield loaded.time(2 * repeats)


def compile_all(trainings: Sequence[tuple[Training, Any]]) -> None:
    """Compile steps side by side: XLA compiles one program on few threads."""
    backend = sparse.current_backend()

    def compile_one(training: Training, batch: Any) -> None:
        with sparse.use_backend(backend):  # which a thread does not inherit
            training.compile(batch)

    with ThreadPoolExecutor(processors.available()) as pool:
        list(pool.map(compile_one, *zip(*trainings, strict=True)))


class Loaded:
    """A network that trains on sweeps of points, made batches of on the host meanwhile."""

    def __init__(self, variant: str, device: jax.Device, sweeps: int, most: int | None) -> None:
        """Make two batches' points; nothing is compiled."""
        self.variant, self.sweeps, self.most = variant, sweeps, most
        self.clouds = [[points(turn * sweeps + i) for i in range(sweeps)] for turn in range(2)]
        spec = fitting_spec(*map(self._voxels, self.clouds))
        self.training = Training(variant, spec, device, "tf32")

    def batch(self, number: int) -> Any:
        """The batch of a step, from its points on."""
        return self.training.batch(self._voxels(self.clouds[number % len(self.clouds)]))

    def _voxels(self, clouds: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(
            [moved(voxels(cloud)[: self.most], number) for number, cloud in enumerate(clouds)]
        )

    def time(self, steps: int) -> Row:
        """Milliseconds from batch to batch, while a thread makes those that follow."""
        batches: queue.Queue[Any] = queue.Queue(maxsize=2)
        first = 2  # not counted

        def load() -> None:
            for number in range(first + steps):
                batches.put(self.batch(number))

        loader = threading.Thread(target=load, daemon=True)
        loader.start()
        for _ in range(first):
            jax.block_until_ready(self.training.step(batches.get()))
        start = time.perf_counter()
        for _ in range(steps):
            metrics = self.training.step(batches.get())
        jax.block_until_ready(metrics)
        seconds = (time.perf_counter() - start) / steps
        loader.join()
        return Row(
            f"{self.variant}, from points to steps, {self.sweeps} sweep(s), TF32, one thread loads",
            {"ms": seconds * 1e3, "sweeps/s": self.sweeps / seconds},
        )
