"""Training state: flat dictionaries of arrays by the model's own attribute paths."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

Arrays = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """What of a model is not an array: enough to rebuild it around other arrays."""

    graph: nnx.GraphDef[Any]
    variables: tuple[tuple[tuple[Any, ...], Any], ...]

    def model(self, parameters: Mapping[str, Any], statistics: Mapping[str, Any]) -> nnx.Module:
        """The model around these arrays. Names must be those of `split`."""
        values = {**parameters, **statistics}
        filled = [
            (path, variable.replace(values[path_name(path)])) for path, variable in self.variables
        ]
        return nnx.merge(self.graph, nnx.from_flat_state(filled))


class TrainState(NamedTuple):
    """Everything a step changes; one copy per device.

    Attributes:
        step: int32 scalar, steps done.
        parameters: arrays by path, such as `block1.0.conv1.kernel`; those that are frozen too.
        statistics: running statistics by path.
        optimizer: the optimiser's state over the trained parameters.

    """

    step: Any
    parameters: dict[str, Any]
    statistics: dict[str, Any]
    optimizer: Any


def path_name(path: tuple[Any, ...]) -> str:
    """`("block1", 0, "conv1", "kernel")` as `block1.0.conv1.kernel`."""
    return ".".join(str(part) for part in path)


def split(model: nnx.Module) -> tuple[Skeleton, Arrays, Arrays]:
    """Take a model apart into skeleton, parameters and running statistics.

    Raises:
        ValueError: the model has variables of another kind than `nnx.Param` and `nnx.BatchStat`.

    """
    graph, state = nnx.split(model)
    parameters: Arrays = {}
    statistics: Arrays = {}
    variables = []
    for path, variable in nnx.to_flat_state(state):
        name = path_name(path)
        if isinstance(variable, nnx.Param):
            parameters[name] = variable.get_value()
        elif isinstance(variable, nnx.BatchStat):
            statistics[name] = variable.get_value()
        else:
            raise ValueError(
                f"{name} is an {type(variable).__name__}; "
                "the training state carries nnx.Param and nnx.BatchStat only"
            )
        variables.append((path, variable.replace(None)))
    return Skeleton(graph, tuple(variables)), parameters, statistics


def statistics_of(model: nnx.Module) -> Arrays:
    """The running statistics of a model, by path."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.BatchStat))
    return {path_name(path): variable.get_value() for path, variable in flat}


def create(
    parameters: Arrays,
    statistics: Arrays,
    optimizer: optax.GradientTransformation,
    trained: Collection[str] | None = None,
) -> TrainState:
    """The state before the first step; `trained` are the names of parameters, all by default."""
    chosen = parameters if trained is None else {name: parameters[name] for name in trained}
    return TrainState(jnp.zeros((), jnp.int32), parameters, statistics, optimizer.init(chosen))


def count(arrays: Mapping[str, Any]) -> int:
    """Number of values in a dictionary of arrays."""
    return sum(int(np.prod(np.shape(array))) for array in arrays.values())


def prediction(skeleton: Skeleton) -> Callable[[TrainState, Mapping[str, Any]], jax.Array]:
    """The network in evaluation mode as a function of state and inputs, its arguments by name."""

    def predict(state: TrainState, inputs: Mapping[str, Any]) -> jax.Array:
        model: Any = skeleton.model(state.parameters, state.statistics)
        model.eval()
        return model(**inputs)

    return predict
