"""A step whose loss or gradient was not finite: what is kept of it, and running it again.

not_finite/step_9/state/               the checkpoint of the state before the step
not_finite/step_9/step.json            its number, seed and devices, and what was not finite
not_finite/step_9/batch_of_process_0.npz  the arrays of its batch, one file a process
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from uov_jax.checkpoints import state
from uov_jax.checkpoints.folder import read_arrays, read_record
from uov_jax.checkpoints.run import named_arrays
from uov_jax.checkpoints.state import TrainState
from uov_jax.contents import parse_npz
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import write_npz, write_text
from uov_jax.training import step
from uov_jax.training.parallel import AXIS, Parallel
from uov_jax.training.task import Task

FOLDER, STATE, FACTS = "not_finite", "state", "step.json"
_WATCHED, _GRADIENT = "watched ", "gradient of "
SHOWN = 5  # names of a kind that a report shows


@dataclasses.dataclass(frozen=True)
class BrokenStep:
    """What is kept of a step beside state and batch.

    Attributes:
        step: its number, from 1.
        seed: of the run; with the number it decides on batch and augmentation.
        devices: of all processes.
        processes: how many there were.
        what: is not finite, "loss" or "gradient_norm".
        value: of that, as text.

    """

    step: int
    seed: int
    devices: int
    processes: int
    what: str
    value: str

    def folder(self, directory: Path) -> Path:
        """Where it is kept in the directory of a run."""
        return directory / FOLDER / f"step_{self.step}"


def keep(folder: Path, facts: BrokenStep | None, batch: Any, process: int) -> None:
    """Write a batch and, where a process is given them, the facts."""
    folder.mkdir(parents=True, exist_ok=True)
    if facts is not None:
        write_text(folder / FACTS, json.dumps(dataclasses.asdict(facts), indent=1))
    arrays = named_arrays(batch)
    write_npz(_batch_file(folder, process), arrays, stored=arrays)


def find_broken_step(path: Path) -> Path:
    """The folder of a broken step: `path` itself, or the latest one of a run's directory.

    Raises:
        MissingFileError: there is none.

    """
    if (path / FACTS).is_file():
        return path
    found = [folder.parent for folder in (path / FOLDER).glob(f"step_*/{FACTS}")]
    if not found:
        raise MissingFileError(
            f"{path}: no step is kept there whose loss was not finite; expected a run directory "
            f"with {FOLDER}/step_N in it, or that folder"
        )
    return max(found, key=lambda folder: folder.stat().st_mtime)


def read_facts(folder: Path) -> BrokenStep:
    """What is kept of a step; InputError if it cannot be read."""
    try:
        return BrokenStep(**json.loads((folder / FACTS).read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder / FACTS}: expected the facts of a step: {error}") from error


def recipe_of(folder: Path) -> ConfigDict:
    """The recipe of the run, as it was, with plans built where those of the kept batch were.

    By `plans: auto` another machine would give the batch another form, into which the kept one does
    not fit.
    """
    config = ConfigDict(_with_tuples(read_record(folder / STATE)["config"]))
    plans = _place_of_plans(folder)
    if plans is not None and "data" in config:
        with config.unlocked():
            config.data.plans = plans
    return config


def _place_of_plans(folder: Path) -> str | None:
    """Where the plans of the kept batch were built: "host", "device"; None if it has none."""
    path = _batch_file(folder, 0)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        parts = [name.split("/") for name in parse_npz(file)]
    # Of a micro-batch the number comes first.
    members = {name[name.index("plan") + 1] for name in parts if "plan" in name[:-1]}
    if "coords" not in members:
        return None
    return "host" if "same" in members else "device"


def _batch_file(folder: Path, process: int) -> Path:
    return folder / f"batch_of_process_{process}.npz"


def _with_tuples(value: Any) -> Any:
    """JSON has no tuples, recipes have no lists."""
    if isinstance(value, Mapping):
        return {name: _with_tuples(each) for name, each in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


@dataclasses.dataclass(frozen=True)
class Found:
    """What is not finite of a step that was run again: numbers of such values by name, in order.

    Attributes:
        metrics: of the step.
        weights: parameters and running statistics before it.
        batch: arrays of the batch.
        modules: outputs of the network's modules, in the order in which they come to be; inputs
            as "what comes into NAME".
        gradients: of the parameters.
        num_gradients: how many there are.
        other_batch: why the batch is not the kept one; None where it is.

    """

    metrics: dict[str, float]
    weights: dict[str, int]
    batch: dict[str, int]
    modules: dict[str, int]
    gradients: dict[str, int]
    num_gradients: int
    other_batch: str | None

    def lines(self) -> list[str]:
        """As a report for people."""
        shown = {n: v for n, v in self.metrics.items() if n != "learning_rate"}
        lines = ["  ".join(f"{name} {value:.6g}" for name, value in shown.items())]
        if self.other_batch is not None:
            lines.append(self.other_batch)
        for what, counts in (("the state before it", self.weights), ("the batch", self.batch)):
            if counts:
                lines.append(f"Not finite in {what}: {_some(counts)}.")
        if self.modules:
            name, number = next(iter(self.modules.items()))
            lines.append(
                f"The first that is not finite in the network: {name} ({number:,} values)."
            )
        elif not math.isfinite(self.metrics["loss"]):
            lines.append("All outputs of the network's modules are finite: look at the loss.")
        if self.gradients:
            some = _some(self.gradients)
            lines.append(
                f"Not finite of {self.num_gradients} gradients: {len(self.gradients)}: {some}."
            )
        if not (self.weights or self.batch or self.modules or self.gradients):
            if all(map(math.isfinite, self.metrics.values())):
                lines.append(
                    "All is finite here: the step breaks on the machine, with the devices or the "
                    "kernels of the run alone."
                )
        return lines


def _some(counts: Mapping[str, int]) -> str:
    names = [f"{name} ({number:,} values)" for name, number in counts.items()]
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def run_again(task: Task, seed: int, folder: Path, parallel: Parallel) -> Found:
    """Run a kept step again and look at everything in it.

    Args:
        task: as it was trained.
        seed: of the run.
        folder: of the step.
        parallel: as many devices in this process as the run had in all.

    Raises:
        InputError: there are not as many devices, or what is kept does not fit the task.

    """
    facts = read_facts(folder)
    if parallel.num_devices != facts.devices:
        raise InputError(
            f"{folder}: this step was taken on {facts.devices} devices, this process has "
            f"{parallel.num_devices}: as many are needed, on whatever machine"
        )
    arrays = read_arrays(folder / STATE, ("parameters", "statistics"))
    skeleton, parameters, statistics = state.split(step.initial_model(task, seed))
    before = TrainState(
        np.int32(facts.step - 1),
        _of(arrays, "parameters", parameters, folder),
        _of(arrays, "statistics", statistics, folder),
        None,
    )
    batch, other = _batch_of(task, facts, folder, parallel)
    metrics, counts = _look(task, skeleton, before, batch, parallel)
    gradients = {n.removeprefix(_GRADIENT): c for n, c in counts.items() if n.startswith(_GRADIENT)}
    return Found(
        metrics=metrics,
        weights=_not_finite(before._replace(step=np.int32(0))),
        batch=_not_finite(batch),
        modules={n: c for n, c in counts.items() if c and not n.startswith(_GRADIENT)},
        gradients={name: count for name, count in gradients.items() if count},
        num_gradients=len(gradients),
        other_batch=other,
    )


def _of(
    arrays: Mapping[str, np.ndarray], part: str, like: Mapping[str, Any], folder: Path
) -> dict[str, np.ndarray]:
    found = {name: arrays.get(f"{part}/{name}") for name in like}
    for name, array in found.items():
        if array is None or array.shape != np.shape(like[name]):
            raise InputError(f"{folder / STATE}: {name} is not the one of this task's network")
    return found  # type: ignore[return-value]


def _batch_of(
    task: Task, facts: BrokenStep, folder: Path, parallel: Parallel
) -> tuple[Any, str | None]:
    """The kept batch, put together of all processes', in the form of one that is built now."""
    batches = task.train_batches(len(parallel.devices))
    built = next(iter(batches.starting_at(facts.step - 1)))
    expected = named_arrays(built)
    parts = []
    for process in range(facts.processes):
        with _batch_file(folder, process).open("rb") as file:
            parts.append(parse_npz(file))
    shapes = {name: array.shape[1:] for name, array in parts[0].items()}
    if shapes != {name: np.shape(array)[1:] for name, array in expected.items()}:
        return built, (
            "The batch is built anew: the kept one has arrays of other sizes, as processes agree "
            "on them."
        )
    kept = {name: np.concatenate([part[name] for part in parts]) for name in expected}
    batch = jax.tree.unflatten(jax.tree.structure(built), list(kept.values()))
    wrong = [n for n, array in expected.items() if not _equal(kept[n], np.asarray(array))]
    if wrong:
        return batch, (
            f"The batch is the kept one. Built anew of today's files it differs, in "
            f"{', '.join(wrong[:SHOWN])}: a file has changed, or was read wrongly."
        )
    return batch, None


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def _not_finite(tree: Any) -> dict[str, int]:
    counts = {name: _count(np.asarray(array)) for name, array in named_arrays(tree).items()}
    return {name: count for name, count in counts.items() if count}


def _count(array: np.ndarray) -> int:
    # bfloat16 is none of numpy's own types.
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return 0
    return int(np.count_nonzero(~np.isfinite(array.astype(np.float32))))


def _look(
    task: Task, skeleton: state.Skeleton, before: TrainState, batch: Any, parallel: Parallel
) -> tuple[dict[str, float], dict[str, int]]:
    """Metrics, and numbers of values that are not finite by the names of what has them."""
    watched: Any = _Watched(task)
    differentiate = step.gradient_of_loss(watched, skeleton)

    def look(state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        gradient, _, metrics = differentiate(state, batch)
        counts = {n: m for n, m in metrics.items() if n.startswith(_WATCHED)}
        gradient = jax.tree.map(lambda g: jax.lax.pmean(g, AXIS), gradient)
        counts |= {f"{_GRADIENT}{name}": _number(array) for name, array in gradient.items()}
        rest = {name: metric for name, metric in metrics.items() if name not in counts}
        return state, (jax.lax.pmean(rest, AXIS), jax.lax.psum(counts, AXIS))

    run = parallel.spread(look)
    found: dict[str, int] = {}
    for part in batch if isinstance(batch, tuple) else (batch,):
        placed = parallel.replicate(before)
        _, result = run(placed, parallel.shard(part))
        metrics, counts = parallel.first(result)
        values = {name: float(value) for name, value in metrics.items()}
        names = {f"{_WATCHED}{n:05d}": name for n, name in enumerate(watched.names)}
        found = {}
        for key, count in sorted(counts.items()):
            name = names.get(key, key)  # a module may be called twice
            found[name] = found.get(name, 0) + int(count)
        if any(counts.values()):
            break
    return values, found


def _number(array: jax.Array) -> jax.Array:
    wrong = ~jnp.isfinite(jax.lax.stop_gradient(array))
    return jnp.sum(wrong.astype(jnp.float32))


class _Watched:
    """A task whose metrics count what is not finite in its network, in the order of its names."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.names: list[str] = []

    def parameter_group(self, path: str) -> str:
        return self._task.parameter_group(path)

    def loss(
        self, model: nnx.Module, batch: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        with _watching(model) as seen:
            loss, metrics = self._task.loss(model, batch, axis_name)
        self.names = [name for name, _ in seen]
        return loss, metrics | {f"{_WATCHED}{n:05d}": count for n, (_, count) in enumerate(seen)}


@contextlib.contextmanager
def _watching(model: nnx.Module) -> Iterator[list[tuple[str, jax.Array]]]:
    """Every call of a module of the model adds what is not finite of its inputs and outputs."""
    names = {
        id(module): state.path_name(path) or "the network"
        for path, module in nnx.iter_modules(model)
    }
    seen: list[tuple[str, jax.Array]] = []

    def note(name: str, values: Any) -> None:
        arrays = [a for a in jax.tree.leaves(values) if isinstance(a, jax.Array)]
        counted = [_number(a) for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)]
        if counted:
            seen.append((name, functools.reduce(jnp.add, counted)))

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def with_a_look(self: Any, *arguments: Any, **named: Any) -> Any:
            name = names.get(id(self))
            if name is not None:
                note(f"what comes into {name}", (arguments, named))
            result = call(self, *arguments, **named)
            if name is not None:
                note(name, result)
            return result

        return with_a_look

    classes = {type(module) for _, module in nnx.iter_modules(model)}
    calls = {kind: vars(kind)["__call__"] for kind in classes if "__call__" in vars(kind)}
    for kind, call in calls.items():
        kind.__call__ = watched(call)  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        for kind, call in calls.items():
            kind.__call__ = call  # type: ignore[method-assign]
