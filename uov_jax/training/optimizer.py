"""Optimisers and schedules as PyTorch defines them, because the recipes were found with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from uov_jax.errors import InputError
from uov_jax.quirks import FIRST_STEP_RATE, STEP_BEFORE_EPOCH
from uov_jax.sparse import moving_average

# The rate of a step, of the number of steps done before. Of a jax array, as in training, it is
# float32; of a number or an array of numpy it is float64, by the same formula.
Schedule = Callable[[Any], Any]
GROUPS = ("trunk", "head")
# Parameters of this group are no part of the optimisation: they have no gradient and no state.
FROZEN = "frozen"


class MomentumState(NamedTuple):
    """Momentum buffer; `started` is False until the first gradient has come."""

    started: jax.Array
    buffer: optax.Updates


def torch_momentum(
    momentum: float, dampening: float = 0.0, nesterov: bool = False
) -> optax.GradientTransformation:
    """Momentum as `torch.optim.SGD` defines it.

    The first step's buffer is the raw gradient, not dampened; later ones are
    `momentum * buffer + (1 - dampening) * gradient`.

    Raises:
        InputError: Nesterov momentum with dampening, or without momentum (PyTorch forbids both).

    """
    if nesterov and (momentum <= 0 or dampening != 0):
        raise InputError(
            f"Nesterov momentum needs momentum > 0 and dampening 0, "
            f"found momentum {momentum} and dampening {dampening}"
        )

    def init(parameters: optax.Params) -> MomentumState:
        return MomentumState(jnp.zeros((), bool), jax.tree.map(jnp.zeros_like, parameters))

    def update(
        gradient: optax.Updates, state: optax.OptState, parameters: optax.Params | None = None
    ) -> tuple[optax.Updates, MomentumState]:
        del parameters
        started, old = cast(MomentumState, state)

        decay = jnp.where(started, momentum, 0.0)
        weight = jnp.where(started, 1.0 - dampening, 1.0)
        buffer = jax.tree.map(lambda b, g: moving_average(b, g, decay, weight), old, gradient)
        step = buffer
        if nesterov:
            step = jax.tree.map(lambda g, b: g + momentum * b, gradient, buffer)
        return step, MomentumState(jnp.ones((), bool), buffer)

    return optax.GradientTransformation(init, update)


def sgd(
    learning_rate: Schedule,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """`torch.optim.SGD`: the decay is added to the gradient, before the momentum."""
    parts = [optax.add_decayed_weights(weight_decay)] if weight_decay else []
    if momentum:
        parts.append(torch_momentum(momentum, dampening, nesterov))
    return optax.chain(*parts, optax.scale_by_learning_rate(learning_rate))


def torch_moments(betas: tuple[float, float], epsilon: float) -> optax.GradientTransformation:
    """Direction of a step as `torch.optim.Adam` defines it; arXiv 1412.6980, algorithm 1."""

    def init(parameters: optax.Params) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(
        gradient: optax.Updates, state: optax.OptState, parameters: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.ScaleByAdamState]:
        del parameters
        count, *old = cast(optax.ScaleByAdamState, state)
        first, second = (
            jax.tree.map(
                lambda m, g, beta=beta, squares=squares: moving_average(
                    m, g, beta, 1.0 - beta, squares=squares
                ),
                moment,
                gradient,
            )
            for moment, beta, squares in zip(old, betas, (False, True), strict=True)
        )
        count = count + 1
        unbias_first, unbias_second = (1.0 - beta ** count.astype(jnp.float32) for beta in betas)
        step = jax.tree.map(
            lambda m, v: (m / unbias_first) / (jnp.sqrt(v / unbias_second) + epsilon), first, second
        )
        return step, optax.ScaleByAdamState(count, first, second)

    return optax.GradientTransformation(init, update)


def adam(
    learning_rate: Schedule,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """`torch.optim.Adam`: the decay is an L2 term of the gradient, not decoupled as in AdamW."""
    parts = [optax.add_decayed_weights(weight_decay)] if weight_decay else []
    rate = optax.scale_by_learning_rate(learning_rate)
    return optax.chain(*parts, torch_moments(betas, epsilon), rate)


def schedule(
    base: float,
    name: str,
    total_steps: int,
    steps_per_epoch: int,
    *,
    per: str = "epoch",
    warmup_epochs: float = 0.0,
    power: float = 0.9,
    step_epochs: int = 20,
    gamma: float = 0.7,
    quirks: Collection[str] = (),
) -> Schedule:
    """Learning rate as a function of the number of steps done before.

    Args:
        base: the rate at the top.
        name: "cosine" (to zero, `torch.optim.lr_scheduler.CosineAnnealingLR`), "poly"
          (`(1 - t)^power`), "step" (`torch.optim.lr_scheduler.StepLR`) or "constant".
        total_steps: length of the run.
        steps_per_epoch: steps after which "epoch" schedules change.
        per: "epoch": the rate is constant within an epoch; "step": it changes at every step.
        warmup_epochs: linear rise from zero, always per step; the decay's clock runs from step 0.
        power: of "poly".
        step_epochs: whole epochs after which "step" multiplies the rate,
        gamma: by this.
        quirks: of `uov_jax.quirks`; those of schedules count here.

    Raises:
        InputError: unknown name or `per`, a run of no step, or steps of no epoch.

    """
    if total_steps < 1 or steps_per_epoch < 1:
        raise InputError(
            f"a schedule needs at least one step and one step an epoch, "
            f"found {total_steps} and {steps_per_epoch}"
        )
    if per not in ("epoch", "step"):
        raise InputError(f"config.schedule.per: expected 'epoch' or 'step', found {per!r}")
    if step_epochs < 1:
        raise InputError(f"config.schedule.step_epochs = {step_epochs}: expected at least 1")
    length = math.ceil(total_steps / steps_per_epoch) if per == "epoch" else total_steps
    decay: dict[str, Callable[[Any, Any], Any]] = {
        "cosine": lambda xp, t: 0.5 * (1.0 + xp.cos(xp.pi * t)),
        "poly": lambda xp, t: (1.0 - t) ** power,
        "constant": lambda xp, t: xp.ones_like(t),
    }
    if name not in (*decay, "step"):
        known = sorted((*decay, "step"))
        raise InputError(f"config.schedule.name: expected one of {known}, found {name!r}")
    warmup_steps = warmup_epochs * steps_per_epoch
    early = int(STEP_BEFORE_EPOCH in quirks)

    def rate(count: Any) -> Any:
        xp: Any = jnp if isinstance(count, jax.Array) else np
        real = xp.float32 if xp is jnp else xp.float64
        count = xp.asarray(count, xp.int32)
        if name == "step":
            decays = (count // steps_per_epoch + early) // step_epochs
            value = base * xp.asarray(gamma, real) ** decays.astype(real)
        else:
            clock = count // steps_per_epoch if per == "epoch" else count
            value = base * decay[name](xp, xp.minimum(clock.astype(real) / length, 1.0))
        if name == "poly" and FIRST_STEP_RATE in quirks:
            value = xp.where(count == 0, base / 10, value)
        if warmup_steps > 0:
            rise = (count.astype(real) + 1.0) / warmup_steps
            value = value * xp.minimum(rise, 1.0)
        return value

    return rate


def build_optimizer(
    config: Mapping[str, Any],
    schedule_config: Mapping[str, Any],
    groups: Mapping[str, str],
    total_steps: int,
    steps_per_epoch: int,
    batch_size: int,
    quirks: Collection[str] = (),
) -> tuple[optax.GradientTransformation, Schedule]:
    """The optimiser that a config's `optimizer` and `schedule` sections describe.

    Args:
        config: `name` ("sgd" or "adam"), `learning_rate`, `head_learning_rate` (None: as the
          trunk's), `rates_for_batch_size` (both rates are multiplied by `batch_size` over it;
          None or absent: they are not), and the settings of that optimiser.
        schedule_config: keyword arguments of `schedule`.
        groups: "trunk" or "head" for every trained parameter, by name.
        total_steps: length of the run.
        steps_per_epoch: batches of one epoch.
        batch_size: sweeps a step.
        quirks: as of `schedule`.

    Returns:
        The optimiser over a dict of the same names, and the trunk's schedule.

    Raises:
        InputError: unknown optimiser, group or schedule.

    """
    settings = dict(config)
    name = settings.pop("name")
    makers: dict[str, Callable[..., optax.GradientTransformation]] = {"sgd": sgd, "adam": adam}
    if name not in makers:
        raise InputError(f"config.optimizer.name: expected one of {sorted(makers)}, found {name!r}")
    for parameter, group in groups.items():
        if group not in GROUPS:
            raise InputError(f"parameter {parameter}: group {group!r}, expected one of {GROUPS}")
    base = settings.pop("learning_rate")
    head = settings.pop("head_learning_rate", None)
    reference = settings.pop("rates_for_batch_size", None)
    scale = 1.0 if reference is None else batch_size / reference
    rates = {
        group: schedule(
            scale * value,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            quirks=quirks,
            **schedule_config,
        )
        for group, value in {"trunk": base, "head": base if head is None else head}.items()
    }
    optimizer = optax.partition(
        {group: makers[name](rate, **settings) for group, rate in rates.items()}, dict(groups)
    )
    return optimizer, rates["trunk"]
