"""The training step as a pure function of one device's state, and spread over all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from uov_jax.checkpoints.state import Skeleton, TrainState, statistics_of
from uov_jax.training import parallel
from uov_jax.training.optimizer import FROZEN, Schedule
from uov_jax.training.task import Task

Metrics = dict[str, jax.Array]
# A state, the sum of the gradients of its step so far, and the running statistics so far.
Carried = tuple[TrainState, dict[str, jax.Array], dict[str, jax.Array]]


def training_step(
    task: Task,
    skeleton: Skeleton,
    optimizer: optax.GradientTransformation,
    learning_rate: Schedule,
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """One step of one device, to be spread over the axis `parallel.AXIS`.

    Gradients and metrics are means over the devices. Running statistics are not averaged: the
    batch norms have computed them over all devices already.

    A step whose loss or gradient is not finite leaves the state as it is, and marks it (see
    `before_broken_step`), so that the steps after it leave it alone too.
    """
    differentiate = gradient_of_loss(task, skeleton)
    update = _update(optimizer, learning_rate)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        return update(state, *differentiate(state, batch))

    return step


class AccumulatedStep:
    """A step over micro-batches whose gradients are averaged, one in memory at a time.

    It is two programs: one adds the gradient of a micro-batch to a sum, the other changes the
    parameters. Batch norms see a micro-batch, and track each one's moments.
    """

    def __init__(
        self,
        task: Task,
        skeleton: Skeleton,
        optimizer: optax.GradientTransformation,
        learning_rate: Schedule,
        spread: parallel.Parallel,
        parameters: Mapping[str, Any],
    ) -> None:
        """Of parameters with these shapes, on these devices."""
        differentiate = gradient_of_loss(task, skeleton)
        update = _update(optimizer, learning_rate)

        def add(carried: Carried, batch: Any) -> tuple[Carried, Metrics]:
            state, sums, statistics = carried
            seen = state._replace(statistics=statistics)
            gradient, statistics, metrics = differentiate(seen, batch)
            sums = parallel.in_place(_added, sums, gradient)
            return (state, sums, statistics), metrics

        def finish(carried: Carried, found: list[Metrics]) -> tuple[Carried, Metrics]:
            state, sums, statistics = carried
            gradient, metrics = (
                jax.tree.map(lambda value: value / len(found), total)
                for total in (sums, functools.reduce(_added, found))
            )
            state, metrics = update(state, gradient, statistics, metrics)
            return (state, jax.tree.map(jnp.zeros_like, sums), state.statistics), metrics

        self._add, self._finish = spread.spread(add), spread.spread(finish)
        self._sums = spread.replicate(
            {
                name: np.zeros(np.shape(array), np.float32)
                for name, array in _by_group(task, parameters)[0].items()
            }
        )
        # Of their own: those in the state stay until the whole step is known to be finite.
        self._statistics: Any = None

    def __call__(self, state: Any, batches: Sequence[Any]) -> tuple[Any, Metrics]:
        """The state after the step, and its metrics, of batches that lie on the devices."""
        if self._statistics is None:
            self._statistics = _copied(state.statistics)
        carried, found = (state, self._sums, self._statistics), []
        for batch in batches:
            carried, metrics = self._add(carried, batch)
            found.append(metrics)
        (state, self._sums, self._statistics), metrics = self._finish(carried, found)
        return state, metrics


def spread_step(
    task: Task,
    skeleton: Skeleton,
    optimizer: optax.GradientTransformation,
    learning_rate: Schedule,
    spread: parallel.Parallel,
    parameters: Mapping[str, Any],
    micro_batches: int,
) -> Callable[[Any, Any], tuple[Any, Metrics]]:
    """The compiled step of all devices: of a batch, or of a tuple of so many micro-batches.

    It takes states and batches as `Parallel` places them; do not use the state again.
    """
    if micro_batches > 1:
        return AccumulatedStep(task, skeleton, optimizer, learning_rate, spread, parameters)
    return spread.spread(training_step(task, skeleton, optimizer, learning_rate))


def before_broken_step(state: TrainState) -> TrainState:
    """The state, as host arrays, before the step that was not finite and all after it.

    Such a step turns the number of steps done, n, into -1 - n.
    """
    return state._replace(step=np.where(state.step < 0, -1 - state.step, state.step))


def gradient_of_loss(
    task: Task, skeleton: Skeleton
) -> Callable[[TrainState, Any], tuple[Any, Any, Metrics]]:
    """One device's gradient of the trained parameters, running statistics and metrics.

    Parameters of the group "frozen" are constants of the loss: no gradient of them is computed, and
    what only they influence is not kept for a backward pass.
    """

    def differentiate(state: TrainState, batch: Any) -> tuple[Any, Any, Metrics]:
        trained, frozen = _by_group(task, state.parameters)

        def loss_of(trained: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
            model = skeleton.model({**frozen, **trained}, state.statistics)
            model.train()
            loss, metrics = task.loss(model, batch, parallel.AXIS)
            return loss, (metrics, statistics_of(model))

        gradient_of = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (metrics, statistics)), gradient = gradient_of(trained)
        return gradient, statistics, {"loss": loss, **metrics}

    return differentiate


def _update(
    optimizer: optax.GradientTransformation, learning_rate: Schedule
) -> Callable[[TrainState, Any, Any, Metrics], tuple[TrainState, Metrics]]:
    """The step that a device's gradient makes, once it is averaged over all devices."""

    def update(
        state: TrainState,
        gradient: dict[str, jax.Array],
        statistics: dict[str, jax.Array],
        metrics: Metrics,
    ) -> tuple[TrainState, Metrics]:
        gradient = parallel.average(gradient)
        metrics = parallel.average(metrics)
        metrics["gradient_norm"] = optax.tree.norm(gradient)
        metrics["learning_rate"] = learning_rate(state.step)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norm"])
        is_good = finite & (state.step >= 0)

        def change(gradient: Any, optimizer_state: Any, trained: Any) -> Any:
            updates, changed = optimizer.update(gradient, optimizer_state, trained)
            return optax.apply_updates(trained, updates), changed

        def change_if_good(gradient: Any, optimizer_state: Any, trained: Any) -> Any:
            # Selecting between old and new arrays would copy all that is donated.
            kept = (trained, optimizer_state)
            return jax.lax.cond(
                is_good, lambda: change(gradient, optimizer_state, trained), lambda: kept
            )

        trained = {name: state.parameters[name] for name in gradient}
        trained, optimizer_state = parallel.in_place(
            change_if_good, gradient, state.optimizer, trained
        )
        parameters = {**state.parameters, **trained}
        statistics = jax.tree.map(
            lambda new, old: jnp.where(is_good, new, old), statistics, state.statistics
        )
        one = jnp.ones((), jnp.int32)
        broken = jnp.where(state.step < 0, state.step, -one - state.step)
        number = jnp.where(is_good, state.step + one, broken)
        return TrainState(number, parameters, statistics, optimizer_state), metrics

    return update


def _by_group(
    task: Task, parameters: Mapping[str, jax.Array]
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """The trained parameters and the frozen ones."""
    trained: dict[str, jax.Array] = {}
    frozen: dict[str, jax.Array] = {}
    for name, array in parameters.items():
        (frozen if task.parameter_group(name) == FROZEN else trained)[name] = array
    return trained, frozen


@jax.jit
def _copied(arrays: Any) -> Any:
    return jax.tree.map(jnp.copy, arrays)


def _added(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)


def initial_model(task: Task, seed: int) -> nnx.Module:
    """The task's network with the weights that the seed gives."""
    return task.build_model(nnx.Rngs(seed), parallel.AXIS)
