"""Res16UNet34C: inference, the training step and its compilation."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from benchmarks import dense, peers
from benchmarks.peers import Call
from benchmarks.report import OURS, Row, compared
from benchmarks.sweeps import VoxelSweep, fitting_spec
from benchmarks.timing import interleaved
from uov_jax import sparse
from uov_jax.checkpoints import state
from uov_jax.checkpoints.state_dict import model_to_state_dict
from uov_jax.models.minkunet import VARIANTS, res16unet34c
from uov_jax.sparse import Plan
from uov_jax.training import step
from uov_jax.training.optimizer import sgd
from uov_jax.training.parallel import Parallel

CLASSES = 17
NARROW = "bfloat16"


class _Segmentation:
    """Cross-entropy on random labels: as little loss as there can be."""

    def loss(
        self, model: Any, batch: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        plan, features, labels = batch
        scores = jax.nn.log_softmax(model(features, plan))
        chosen = jnp.take_along_axis(scores, labels[:, None], axis=1)
        valid = plan.mask(0)
        loss = -jnp.sum(jnp.where(valid, chosen, 0.0)) / jnp.sum(valid, dtype=jnp.float32)
        return loss, {}

    def parameter_group(self, path: str) -> str:
        del path
        return "trunk"


def products(plan: Plan, classes: int) -> list[tuple[int, int, int]]:
    """Rows, input and output channels of every layer's product over the neighbours that exist."""
    shape = VARIANTS["res16unet34c"]
    same = [int(np.sum(np.asarray(m.forward) >= 0)) for m in plan.same]
    down = [int(np.sum(np.asarray(m.forward) >= 0)) for m in plan.down]
    counts = [int(n) for n in np.asarray(plan.counts)]
    found, width, skips = [(same[0], 1, 32)], 32, [32]
    for stage, (planes, blocks) in enumerate(zip(shape.planes, shape.blocks, strict=True)):
        level = stage + 1 if stage < 4 else 7 - stage
        if stage < 4:
            found.append((down[stage], width, width))
            joined = width
        else:
            found.append((down[level], width, planes))
            joined = planes + skips[level]
        found.append((same[level], joined, planes))
        found += [(same[level], planes, planes)] * (2 * blocks - 1)
        if joined != planes:
            found.append((counts[level], joined, planes))
        width = planes
        skips.append(width)
    return [*found, (counts[0], width, classes)]


def useful_gigaflop(plan: Plan, classes: int) -> float:
    """Multiplications and additions of one forward pass over the neighbours that exist."""
    return 2e-9 * sum(rows * inner * outer for rows, inner, outer in products(plan, classes))


class Own:
    """Our network on a cloud: forward pass and training step, with a new plan in every call.

    `weights` are the first ones, by PyTorch's names; `dtype` is that of the activations.
    """

    def __init__(
        self,
        coords: np.ndarray,
        features: np.ndarray,
        labels: np.ndarray,
        dtype: DTypeLike = jnp.float32,
    ) -> None:
        self.coords, self.features, self.labels = coords, features, labels
        self.spec = fitting_spec(coords)
        self.parallel = Parallel(jax.local_devices()[:1])
        model = res16unet34c(
            features.shape[1], CLASSES, dtype=dtype, rngs=nnx.Rngs(0), axis_name="data"
        )
        self.weights = model_to_state_dict(model)
        skeleton, parameters, statistics = state.split(model)
        rate = functools.partial(jnp.full, (), 1e-3)
        optimizer = sgd(lambda _: rate(), momentum=0.9)
        task: Any = _Segmentation()
        train = step.training_step(task, skeleton, optimizer, lambda _: rate())
        self._train: Any = self.parallel.spread(train)
        self._predict = self.parallel.in_turn(state.prediction(skeleton))
        first = state.create(parameters, statistics, optimizer)
        self._state = self.parallel.replicate(jax.device_get(first))

    def forward(self) -> jax.Array:
        """Scores of the voxels by the weights there are by now."""
        plan = sparse.build_plan(self.coords, self.spec)
        return self._predict(self._state, {"features": self.features, "plan": plan})

    def step(self) -> Any:
        """One step further: (state, metrics)."""
        self._state, metrics = self._train(self._state, self._batch())
        return self._state, metrics

    def lowered_step(self) -> Any:
        """The step as a program to be compiled."""
        return self._train.lower(self._state, self._batch())

    def _batch(self) -> Any:
        arrays = sparse.build_plan(self.coords, self.spec), self.features, self.labels
        return self.parallel.shard(jax.tree.map(lambda a: np.asarray(a)[None], arrays))


def made_up(coords: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 [N, 1] and labels int32 [N]."""
    generator = np.random.default_rng(0)
    features = generator.standard_normal((len(coords), 1), np.float32)
    return features, generator.integers(0, CLASSES, len(coords)).astype(np.int32)


def networks(sweep: VoxelSweep, repeats: int) -> Iterator[Row]:
    """Forward and training step with new coordinates in every call, against the peers'.

    In float32 as the peers, which have nothing narrower on a CPU, and in bfloat16. The loss is
    cross-entropy on all sides. The float32 network is also held against its products alone, as
    dense ones.
    """
    coords = sweep.coords
    features, labels = made_up(coords)
    own = Own(coords, features, labels)
    narrow = Own(coords, features, labels, jnp.bfloat16)
    calls: dict[str, Call] = {
        f"{OURS} forward": own.forward,
        f"{OURS} step": own.step,
        f"{NARROW} forward": narrow.forward,
        f"{NARROW} step": narrow.step,
    }
    plan = sparse.build_plan(coords, own.spec)
    bare = dense.libraries()
    for name, multiply in bare.items():
        layers = dense.Layers(products(plan, CLASSES), multiply)
        calls |= {f"{name} forward": layers.forward, f"{name} step": layers.both}
    for peer in peers.available():
        run, learn = peer.network(coords, features, labels, own.weights)
        calls |= {f"{peer.name} forward": run, f"{peer.name} step": learn}
    timings = interleaved(calls, repeats)
    gigaflop = useful_gigaflop(plan, CLASSES)
    for kind, passes in (("forward", 1), ("step", 3)):
        chosen = {k.removesuffix(f" {kind}"): t for k, t in timings.items() if k.endswith(kind)}
        in_bfloat16 = chosen.pop(NARROW)
        what = f"Res16UNet34C {kind}"
        yield compared(what, chosen, passes * gigaflop, "GFLOP/s")
        chosen = {name: t for name, t in chosen.items() if name not in bare}
        yield compared(
            f"{what}, {NARROW}", chosen | {OURS: in_bfloat16}, passes * gigaflop, "GFLOP/s"
        )
