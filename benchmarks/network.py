"""Res16UNet34C: inference, the training step and its compilation."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import peers
from benchmarks.peers import Call
from benchmarks.report import OURS, Row, compared
from benchmarks.sweeps import VoxelSweep
from benchmarks.timing import interleaved
from uov_jax import sparse
from uov_jax.convert import model_to_state_dict
from uov_jax.models.minkunet import VARIANTS, res16unet34c
from uov_jax.sparse import Plan, PlanSpec
from uov_jax.training import state, step
from uov_jax.training.optimizer import sgd
from uov_jax.training.parallel import Parallel

CLASSES = 17


class _Segmentation:
    """Cross-entropy on random labels: as little loss as there can be."""

    def loss(self, model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        plan, features, labels = batch
        scores = jax.nn.log_softmax(model(features, plan))
        chosen = jnp.take_along_axis(scores, labels[:, None], axis=1)
        valid = plan.mask(0)
        loss = -jnp.sum(jnp.where(valid, chosen, 0.0)) / jnp.sum(valid)
        return loss, {}


def useful_gigaflop(plan: Plan, classes: int) -> float:
    """Multiplications and additions of one forward pass over the neighbours that exist."""
    shape = VARIANTS["res16unet34c"]
    same = [int(np.sum(np.asarray(m.forward) >= 0)) for m in plan.same]
    down = [int(np.sum(np.asarray(m.forward) >= 0)) for m in plan.down]
    counts = [int(n) for n in np.asarray(plan.counts)]
    total, width, skips = same[0] * 32, 32, [32]
    for stage, (planes, blocks) in enumerate(zip(shape.planes, shape.blocks, strict=True)):
        level = stage + 1 if stage < 4 else 7 - stage
        if stage < 4:
            total += down[stage] * width * width
            joined = width
        else:
            total += down[level] * width * planes
            joined = planes + skips[level]
        total += same[level] * planes * (joined + planes * (2 * blocks - 1))
        total += counts[level] * joined * planes if joined != planes else 0
        width = planes
        skips.append(width)
    return 2e-9 * (total + counts[0] * width * classes)


def own(
    coords: np.ndarray, features: np.ndarray, labels: np.ndarray
) -> tuple[dict[str, np.ndarray], Call, Call]:
    """The first weights, and our forward (scores) and training step ((state, metrics)) from them.

    Plans are built anew in every call; a step continues from the one before, a forward too.
    """
    spec = PlanSpec(len(coords))
    parallel = Parallel(jax.local_devices()[:1])
    model = res16unet34c(features.shape[1], CLASSES, rngs=nnx.Rngs(0), axis_name="data")
    weights = model_to_state_dict(model)
    skeleton, parameters, statistics = state.split(model)
    rate = functools.partial(jnp.full, (), 1e-3)
    optimizer = sgd(lambda _: rate(), momentum=0.9)
    task: Any = _Segmentation()
    train = parallel.spread(step.training_step(task, skeleton, optimizer, lambda _: rate()))
    predict = parallel.on_first(step.prediction(skeleton))
    current = parallel.replicate(jax.device_get(state.create(parameters, statistics, optimizer)))

    def batch() -> Any:
        plan = sparse.build_plan(coords, spec)
        return jax.tree.map(lambda a: np.asarray(a)[None], (plan, features, labels))

    def forward() -> jax.Array:
        return predict(current, features, sparse.build_plan(coords, spec))

    def one_step() -> Any:
        nonlocal current
        current, metrics = train(current, parallel.shard(batch()))
        return current, metrics

    return weights, forward, one_step


def networks(sweep: VoxelSweep, repeats: int) -> Iterator[Row]:
    """Forward and training step with new coordinates in every call, against the peers'."""
    coords = sweep.coords
    generator = np.random.default_rng(0)
    features = generator.standard_normal((len(coords), 1), np.float32)
    labels = generator.integers(0, CLASSES, len(coords)).astype(np.int32)
    weights, forward, one_step = own(coords, features, labels)
    start = time.perf_counter()
    jax.block_until_ready(one_step())
    compilation = time.perf_counter() - start
    calls = {f"{OURS} forward": forward, f"{OURS} step": one_step}
    for peer in peers.available():
        run, learn = peer.network(coords, features, labels, weights)
        calls |= {f"{peer.name} forward": run, f"{peer.name} step": learn}
    timings = interleaved(calls, repeats)
    plan = sparse.build_plan(coords, PlanSpec(len(coords)))
    gigaflop = useful_gigaflop(plan, CLASSES)
    for kind, passes in (("forward", 1), ("step", 3)):
        chosen = {k.removesuffix(f" {kind}"): t for k, t in timings.items() if k.endswith(kind)}
        yield compared(f"Res16UNet34C {kind}", chosen, passes * gigaflop, "GFLOP/s")
    yield Row("first step, program compiled or loaded", compilation * 1e3, 0.0)
