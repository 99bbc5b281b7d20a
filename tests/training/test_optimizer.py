"""Optimisers and schedules against PyTorch's documented algorithms written in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.conftest import DATA
from uov_jax.quirks import FIRST_STEP_RATE, STEP_BEFORE_EPOCH
from uov_jax.training import optimizer

STEPS = 12


def constant(rate: float) -> optimizer.Schedule:
    return optimizer.schedule(rate, "constant", STEPS, 3)


def gradient_of(parameters: np.ndarray, step: int) -> np.ndarray:
    """A gradient that depends on the parameters, so that errors would grow."""
    return np.sin(parameters * 3.0 + step)


def run(transform: optax.GradientTransformation, start: np.ndarray) -> np.ndarray:
    parameters: Any = {"w": jnp.asarray(start, jnp.float32)}
    state = transform.init(parameters)
    update = jax.jit(transform.update)
    for step in range(STEPS):
        gradient = {"w": jnp.asarray(gradient_of(np.asarray(parameters["w"]), step), jnp.float32)}
        updates, state = update(gradient, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    return np.asarray(parameters["w"])


def torch_sgd(
    start: np.ndarray,
    rate: Callable[[int], float],
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool = False,
) -> np.ndarray:
    """The algorithm box of torch.optim.SGD."""
    parameters = start.astype(np.float64)
    buffer = None
    for step in range(STEPS):
        gradient = gradient_of(parameters, step) + weight_decay * parameters
        if momentum:
            if buffer is None:
                buffer = gradient
            else:
                buffer = momentum * buffer + (1 - dampening) * gradient
            gradient = gradient + momentum * buffer if nesterov else buffer
        parameters = parameters - rate(step) * gradient
    return parameters


def torch_adam(start: np.ndarray, rate: float, weight_decay: float) -> np.ndarray:
    """The algorithm box of torch.optim.Adam."""
    parameters = start.astype(np.float64)
    first, second = np.zeros_like(parameters), np.zeros_like(parameters)
    for step in range(STEPS):
        gradient = gradient_of(parameters, step) + weight_decay * parameters
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        unbiased = first / (1 - 0.9 ** (step + 1))
        scale = np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8
        parameters = parameters - rate * unbiased / scale
    return parameters


START = np.linspace(-2, 2, 9)


@pytest.mark.parametrize(
    ("momentum", "dampening", "weight_decay", "nesterov"),
    [(0.9, 0.1, 1e-4, False), (0.0, 0.0, 0.0, False), (0.9, 0.0, 0.1, True), (0.5, 0.3, 0, False)],
)
def test_sgd_is_torchs(
    momentum: float, dampening: float, weight_decay: float, nesterov: bool
) -> None:
    transform = optimizer.sgd(constant(0.05), momentum, dampening, weight_decay, nesterov)
    expected = torch_sgd(START, lambda _: 0.05, momentum, dampening, weight_decay, nesterov)
    np.testing.assert_allclose(run(transform, START), expected, atol=3e-6)


def test_adam_is_torchs() -> None:
    transform = optimizer.adam(constant(0.05), weight_decay=0.1)
    # optax mixes int32 and float in its own bias correction.
    with jax.numpy_dtype_promotion("standard"):
        found = run(transform, START)
    np.testing.assert_allclose(found, torch_adam(START, 0.05, 0.1), atol=5e-6)


def test_nesterov_with_dampening_is_refused() -> None:
    with pytest.raises(ValueError, match="dampening 0.1"):
        optimizer.torch_momentum(0.9, 0.1, nesterov=True)


def test_cosine_per_epoch_is_constant_within_an_epoch() -> None:
    rate = optimizer.schedule(0.5, "cosine", total_steps=40, steps_per_epoch=4)
    values = np.array([float(rate(jnp.asarray(step))) for step in range(40)])
    expected = 0.5 * 0.5 * (1 + np.cos(np.pi * (np.arange(40) // 4) / 10))
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_schedules_per_step_with_warm_up() -> None:
    rate = optimizer.schedule(2.0, "poly", 10, 5, per="step", warmup_epochs=0.4, power=0.9)
    values = [float(rate(jnp.asarray(step))) for step in range(11)]
    expected = 2.0 * (1 - np.arange(11) / 10) ** 0.9
    expected[0] *= 0.5
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-7)


def test_step_per_epoch_decays_after_whole_epochs_or_one_early() -> None:
    rate, early = (
        optimizer.schedule(1.0, "step", 30, 3, step_epochs=4, gamma=0.5, quirks=quirks)
        for quirks in ((), (STEP_BEFORE_EPOCH,))
    )
    steps = np.arange(30)
    np.testing.assert_array_equal(rate(steps), 0.5 ** (steps // 3 // 4))
    np.testing.assert_array_equal(early(steps), 0.5 ** ((steps // 3 + 1) // 4))


def test_poly_is_the_published_one_of_esg_to_float64() -> None:
    """Within 1e-12; its first step's rate is a quirk."""
    with np.load(DATA / "indoor_esg.npz") as file:
        expected = file["rates"]
    steps = np.arange(len(expected))
    quirk, right = (
        optimizer.schedule(1e-3, "poly", len(steps), 7, per="step", quirks=quirks)
        for quirks in ((FIRST_STEP_RATE,), ())
    )
    np.testing.assert_allclose(quirk(steps), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(right(steps)[1:], expected[1:], rtol=0, atol=1e-12)
    assert right(0) == 1e-3


@pytest.mark.parametrize("name", ["cosine", "poly", "step", "constant"])
@pytest.mark.parametrize("per", ["epoch", "step"])
def test_rates_of_training_are_those_of_the_host_rounded(name: str, per: str) -> None:
    """What a step is taken with is float32, by the same formula as the float64 of the host."""
    rate = optimizer.schedule(
        3e-3, name, 50, 5, per=per, warmup_epochs=0.7, step_epochs=2,
        quirks=(STEP_BEFORE_EPOCH, FIRST_STEP_RATE),
    )  # fmt: skip
    steps = np.arange(50)
    found = np.asarray(jax.vmap(rate)(jnp.asarray(steps, jnp.int32)))
    assert found.dtype == np.float32
    assert rate(steps).dtype == np.float64
    # Near the end 1 - t has lost digits to the rounding of t.
    np.testing.assert_allclose(found, rate(steps), rtol=3e-6, atol=1e-9)


def test_schedule_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"schedule.name: .*'cosine'.* found 'cosin'"):
        optimizer.schedule(1.0, "cosin", 10, 5)
    with pytest.raises(ValueError, match=r"schedule.per: .*found 'week'"):
        optimizer.schedule(1.0, "cosine", 10, 5, per="week")
    with pytest.raises(ValueError, match=r"schedule.step_epochs = 0: expected at least 1"):
        optimizer.schedule(1.0, "step", 10, 5, step_epochs=0)
    with pytest.raises(ValueError, match="at least one step"):
        optimizer.schedule(1.0, "cosine", 0, 5)


def test_head_and_trunk_have_their_own_rates() -> None:
    config = {"name": "sgd", "learning_rate": 0.1, "head_learning_rate": 3.0, "momentum": 0.9}
    groups = {"conv.kernel": "trunk", "final.kernel": "head"}
    transform, rate = optimizer.build_optimizer(config, {"name": "constant"}, groups, 10, 5, 16)
    parameters = {name: jnp.zeros(2) for name in groups}
    gradient = {name: jnp.ones(2) for name in groups}
    updates, _ = transform.update(gradient, transform.init(parameters), parameters)
    np.testing.assert_allclose(updates["conv.kernel"], -0.1)
    np.testing.assert_allclose(updates["final.kernel"], -3.0)
    assert float(rate(jnp.asarray(0))) == pytest.approx(0.1)


@pytest.mark.parametrize(("reference", "expected"), [(16, 0.4), (None, 0.1), (64, 0.1)])
def test_rates_scale_with_the_batch(reference: int | None, expected: float) -> None:
    config = {"name": "sgd", "learning_rate": 0.1, "rates_for_batch_size": reference}
    _, rate = optimizer.build_optimizer(config, {"name": "constant"}, {"w": "trunk"}, 10, 5, 64)
    assert float(rate(jnp.asarray(0))) == pytest.approx(expected)


def test_unknown_optimizer_and_group_are_refused() -> None:
    config = {"name": "sdg", "learning_rate": 0.1}
    with pytest.raises(ValueError, match=r"optimizer.name: .*found 'sdg'"):
        optimizer.build_optimizer(config, {"name": "constant"}, {}, 10, 5, 16)
    config["name"] = "sgd"
    with pytest.raises(ValueError, match="parameter conv: group 'neck'"):
        optimizer.build_optimizer(config, {"name": "constant"}, {"conv": "neck"}, 10, 5, 16)
