"""The per-device training step and prediction, as pure functions of the training state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from uov_jax.checkpoints.state import Skeleton, TrainState, statistics_of
from uov_jax.training import parallel
from uov_jax.training.optimizer import FROZEN, Schedule
from uov_jax.training.task import Task

Metrics = dict[str, jax.Array]


def training_step(
    task: Task,
    skeleton: Skeleton,
    optimizer: optax.GradientTransformation,
    learning_rate: Schedule,
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """One step of one device, to be spread over the axis `parallel.AXIS`.

    Gradients and metrics are means over the devices. Running statistics are not averaged: the
    batch norms have computed them over all devices already.

    Parameters of the group "frozen" are constants of the loss: no gradient of them is computed, and
    what only they influence is not kept for a backward pass.
    """

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        frozen: dict[str, jax.Array] = {}
        trained: dict[str, jax.Array] = {}
        for name, array in state.parameters.items():
            (frozen if task.parameter_group(name) == FROZEN else trained)[name] = array

        def loss_of(trained: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
            model = skeleton.model({**frozen, **trained}, state.statistics)
            model.train()
            loss, metrics = task.loss(model, batch, parallel.AXIS)
            return loss, (metrics, statistics_of(model))

        gradient_of = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (metrics, statistics)), gradient = gradient_of(trained)
        gradient = parallel.average(gradient)
        metrics = parallel.average({"loss": loss, **metrics})
        metrics["gradient_norm"] = optax.tree.norm(gradient)
        metrics["learning_rate"] = learning_rate(state.step)

        def update(gradient: Any, optimizer_state: Any, trained: Any) -> Any:
            updates, optimizer_state = optimizer.update(gradient, optimizer_state, trained)
            return optax.apply_updates(trained, updates), optimizer_state

        trained, optimizer_state = parallel.in_place(update, gradient, state.optimizer, trained)
        parameters = {**state.parameters, **trained}
        one = jnp.ones((), jnp.int32)
        return TrainState(state.step + one, parameters, statistics, optimizer_state), metrics

    return step


def initial_model(task: Task, seed: int) -> nnx.Module:
    """The task's network with the weights that the seed gives."""
    return task.build_model(nnx.Rngs(seed), parallel.AXIS)
