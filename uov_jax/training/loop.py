"""The training loop, the only one: steps, logs, evaluations, checkpoints, resuming, stopping."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from uov_jax import compilation, sparse
from uov_jax.checkpoints import kernels, state
from uov_jax.checkpoints.run import RunCheckpoints, has_checkpoint
from uov_jax.errors import InputError, NotFiniteError, UserError
from uov_jax.files import write_text
from uov_jax.quirks import quirks_of
from uov_jax.signals import StopRequest
from uov_jax.training import step, usage
from uov_jax.training.logging import RunLog
from uov_jax.training.optimizer import FROZEN, build_optimizer
from uov_jax.training.parallel import Parallel
from uov_jax.training.profile import Profile
from uov_jax.training.progress import Progress
from uov_jax.training.task import Task

# Processes of a run agree on stopping at every so many steps, because asking costs a wait.
STEPS_BETWEEN_AGREEMENTS = 10


class NonFiniteLossError(InputError):
    """The loss or its gradient is not a number any more; names the step."""


class _EvaluationStopped(Exception):  # noqa: N818 - not an error, a way out of the evaluation
    pass


@dataclasses.dataclass(frozen=True)
class Result:
    """How a call of `train` ended.

    Attributes:
        step: steps done.
        total_steps: steps of the whole run.
        signal: the signal that stopped it, None if it came to its end.
        metrics: of the last evaluation of this call.
        directory: where everything was written.

    """

    step: int
    total_steps: int
    signal: int | None
    metrics: dict[str, float]
    directory: Path

    @property
    def finished(self) -> bool:
        """Whether the run is at its end."""
        return self.step >= self.total_steps


def train(
    task: Task,
    config: ConfigDict,
    directory: str | Path,
    devices: Sequence[jax.Device] | None = None,
) -> Result:
    """Train a task, from the directory's last checkpoint if it has one, else from the beginning.

    Args:
        task: data, model, loss and evaluation.
        config: `seed`, `batch_size`, `total_epochs` or `total_steps`, `optimizer`, `schedule`,
          `run`.
        directory: takes config.json, metrics.csv, loss.png, checkpoints, tensorboard and whatever
          the task's evaluation writes.
        devices: of this process; all by default.

    Raises:
        NonFiniteLossError: loss or gradient became infinite or not a number; nothing is saved.
        CheckpointError: the directory's checkpoint belongs to another run.
        InputError: the config does not make sense.
        UserError: the last evaluation failed; the training is finished and saved, and the same call
            evaluates again.

    """
    sparse.keep_freed_memory()
    compilation.use_cache(config.run.compilation_cache)
    run = _Run(task, config, Path(directory), Parallel(devices))
    with StopRequest() as stop:
        try:
            return run.go(stop)
        finally:
            run.close()


class _Run:
    """One call of `train`: what stays the same over its steps, and the steps."""

    def __init__(self, task: Task, config: ConfigDict, directory: Path, parallel: Parallel) -> None:
        self.task, self.config, self.directory, self.parallel = task, config, directory, parallel
        if config.batch_size < 1:
            raise InputError(f"config.batch_size = {config.batch_size}: expected at least 1")
        if config.batch_size % parallel.num_devices:
            raise InputError(
                f"config.batch_size = {config.batch_size} does not divide over "
                f"{parallel.num_devices} devices"
            )
        for field in (
            "log_every_steps",
            "checkpoint_every_steps",
            "evaluate_every_epochs",
            "profile_steps",
        ):
            if config.run[field] < 0:
                raise InputError(
                    f"config.run.{field} = {config.run[field]}: expected 0, for never, or more"
                )
        self.batches = task.train_batches(len(parallel.devices))
        self.steps_per_epoch = int(self.batches.steps_per_epoch)
        self.total_steps = _total_steps(config, self.steps_per_epoch)
        model = step.initial_model(task, config.seed)
        if not has_checkpoint(directory):
            task.initialize(model)
        self.skeleton, parameters, statistics = state.split(model)
        groups = {name: task.parameter_group(name) for name in parameters}
        trained = {name: group for name, group in groups.items() if group != FROZEN}
        self.num_parameters = state.count(parameters)
        self.num_trained = state.count({name: parameters[name] for name in trained})
        optimizer, rate = build_optimizer(
            config.optimizer.to_dict(),
            config.schedule.to_dict(),
            trained,
            self.total_steps,
            self.steps_per_epoch,
            config.batch_size,
            quirks_of(config),
        )
        first_state = state.create(parameters, statistics, optimizer, trained)
        self.host_state = jax.device_get(first_state)
        self.train_step = parallel.spread(step.training_step(task, self.skeleton, optimizer, rate))
        self.predict = parallel.on_first(state.prediction(self.skeleton))
        identity = {"devices": parallel.num_devices, **task.identity()}
        self.checkpoints = RunCheckpoints(directory, config.to_dict(), identity)
        self.first_kernels = sparse.current_kernels()
        self.other_kernels: str | None = None
        self.iterator: Any = None
        self.log: RunLog | None = None
        self.progress: Progress | None = None
        self.profile: Profile | None = None
        self.programs: set[Any] = set()
        self.compiled_since_look = False
        self.metrics: dict[str, float] = {}
        self.failed_evaluation: UserError | None = None

    def go(self, stop: StopRequest) -> Result:
        """Take the steps that are left."""
        start, device_state = self._begin()
        log = self.log = RunLog(
            self.directory,
            start,
            tensorboard=self.config.run.tensorboard,
            wandb_project=self.config.run.wandb_project,
            config=self.config.to_dict(),
            on=self.parallel.is_main,
        )
        self._greet(start)
        progress = self.progress = Progress(
            start,
            self.total_steps,
            self.config.batch_size,
            self.task.unit,
            on=self.parallel.is_main,
        )
        steps = self.config.run.profile_steps if self.parallel.is_main else 0
        profile = self.profile = Profile(self.directory, start, steps)
        makes_up = self._evaluation_is_due(start) and not self.checkpoints.is_evaluated(start)
        if makes_up:
            # The run was stopped between the step and its evaluation.
            self._evaluate(device_state, start, stop)
        now = start
        pending: tuple[int, Any, float] | None = None
        while now < self.total_steps and not self._should_stop(stop, now):
            asked = time.perf_counter()
            try:
                batch = next(self.iterator)
            except Exception as error:
                # Of several processes none may leave alone: the others would wait for it.
                if self.parallel.num_processes > 1:
                    raise
                # Ctrl-C reaches worker processes too, and ends them.
                if not stop:
                    self._keep(device_state, now, pending)
                    raise
                progress.say(f"Not built any more: {first_line(error)}")
                break
            waited = time.perf_counter() - asked
            self._note_program(batch)
            profile.before_step(now + 1)
            with jax.transfer_guard("disallow"):
                device_state, metrics = self.train_step(device_state, self.parallel.shard(batch))
            now += 1
            # The metrics of a step are looked at while the next one runs.
            if pending is not None:
                self._look_at(*pending)
            pending = (now, metrics, waited)
            saves = _is_due(now, self.config.run.checkpoint_every_steps)
            evaluates = self._evaluation_is_due(now)
            if saves or evaluates or now == self.total_steps:
                self._look_at(*pending)
                pending = None
                self._save(device_state, now)
            if evaluates:
                self._evaluate(device_state, now, stop)
            if saves or evaluates:
                progress.pause()
        if pending is not None:
            self._look_at(*pending)
            self._save(device_state, now)
        self.checkpoints.wait()
        progress.close()
        if now > start or makes_up:
            log.plot()
        self._farewell(now, stop)
        if self.failed_evaluation is not None and now >= self.total_steps:
            raise self.failed_evaluation
        return Result(now, self.total_steps, stop.signal, self.metrics, self.directory)

    def close(self) -> None:
        """Release files; never hides the error that led here."""
        with contextlib.ExitStack() as stack:
            stack.callback(sparse.use_kernels, self.first_kernels)
            stack.callback(self.checkpoints.close)
            if self.log is not None:
                stack.callback(self.log.close)
            if self.progress is not None:
                stack.callback(self.progress.close)
            if self.profile is not None:
                stack.callback(self.profile.close)

    def _begin(self) -> tuple[int, Any]:
        """Where to start, in this order: the directory's last checkpoint; the task's weights."""
        start = 0
        if self.checkpoints.last_step is not None:
            restored = self.checkpoints.restore(self.host_state)
            self.host_state, start = restored.state, restored.step
            self.other_kernels = kernels.go_on_with(restored.kernels)
            self.checkpoints.forget_evaluations_after(start)
        self.iterator = self.batches.starting_at(start)
        device_state = self.parallel.replicate(self.host_state)
        self.host_state = None
        if self.parallel.is_main:
            text = json.dumps(self.config.to_dict(), indent=2, default=str)
            write_text(self.directory / "config.json", text)
        return start, device_state

    def _should_stop(self, stop: StopRequest, now: int) -> bool:
        if self.parallel.num_processes == 1:
            return bool(stop)
        if now % STEPS_BETWEEN_AGREEMENTS:
            return False
        return self.parallel.any(bool(stop))

    def _note_program(self, batch: Any) -> None:
        """A batch of new shapes is about to compile another program."""
        shapes = compilation.shapes(batch)
        if shapes not in self.programs:
            self.programs.add(shapes)
            self.compiled_since_look = True

    def _look_at(self, now: int, metrics: Any, waited: float) -> None:
        """Read a step's metrics, stop the run if they are not finite, and log them."""
        assert self.progress is not None
        assert self.log is not None
        assert self.profile is not None
        values = {name: float(value) for name, value in self.parallel.first(metrics).items()}
        sparse.raise_fault()
        epoch = now / self.steps_per_epoch
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(values[name]):
                raise NonFiniteLossError(self._non_finite(name, values[name], now, epoch))
        rate = self.progress.step(now, values["loss"], self.compiled_since_look, waited)
        self.compiled_since_look = False
        if _is_due(now, self.config.run.log_every_steps) or now in (1, self.total_steps):
            if rate:
                values[f"{self.task.unit}_per_second"] = rate
                values["data_wait"] = self.progress.data_wait
            self.log.add(now, epoch, values | usage.memory(self.parallel.devices))
        if self.profile.after_step(now):
            self.progress.say(
                f"A trace of the last steps is in {self.profile.folder}: open its "
                "perfetto_trace.json.gz at ui.perfetto.dev."
            )
            self.progress.pause()

    def _non_finite(self, name: str, value: float, now: int, epoch: float) -> str:
        last = self.checkpoints.last_step
        kept = (
            f"The checkpoint of step {last} in {self.checkpoints.path(last)} is untouched"
            if last is not None
            else "No checkpoint had been written yet"
        )
        return (
            f"{name} is {value} at step {now} (epoch {epoch:.2f}); the run stops here and saves "
            f"nothing. {kept}. A smaller --config.optimizer.learning_rate or a longer "
            "--config.schedule.warmup_epochs, in a new --workdir, may help; "
            f"see {self.directory / 'metrics.csv'} for how it came"
        )

    def _save(self, device_state: Any, now: int) -> None:
        self.checkpoints.save(now, self.parallel.first(device_state))

    def _keep(self, device_state: Any, now: int, pending: tuple[int, Any, float] | None) -> None:
        """Save the last step before an error of the data ends the run; broken losses stay out."""
        if pending is not None:
            self._look_at(*pending)
            self._save(device_state, now)
            self.checkpoints.wait()

    def _evaluation_is_due(self, now: int) -> bool:
        every = self.config.run.evaluate_every_epochs
        if not every or not now:
            return False
        return now == self.total_steps or now % max(1, round(every * self.steps_per_epoch)) == 0

    def _evaluate(self, device_state: Any, now: int, stop: StopRequest) -> None:
        """Validate on the main process; the others wait for its score."""
        assert self.progress is not None
        assert self.log is not None
        score: float | None = None
        done = False
        self.failed_evaluation = None
        if self.parallel.is_main:

            def predict(inputs: Mapping[str, Any]) -> jax.Array:
                if stop:
                    raise _EvaluationStopped
                return self.predict(device_state, inputs)

            self.progress.say(f"Evaluating at step {now:,}.")
            try:
                self.metrics = self.task.evaluate(predict, self.directory, now)
                self.log.add(now, now / self.steps_per_epoch, self.metrics)
                score = self.task.score(self.metrics)
                done = True
            except _EvaluationStopped:
                pass
            except NotFiniteError:
                raise
            except UserError as error:
                # One sweep that cannot be read must not end the training, now and at every start.
                self.failed_evaluation = error
                what = f"The evaluation at step {now:,} failed: {error}"
                self.progress.say(f"{what}. Training goes on, and evaluates again when it is due.")
        score, done = self.parallel.gather([score, done])[0]
        if done:
            self.checkpoints.record_evaluation(now, score)
        self.progress.pause()

    def _greet(self, start: int) -> None:
        if not self.parallel.is_main:
            return
        kind = self.parallel.devices[0].platform
        number = self.parallel.num_devices
        some = "" if self.num_trained == self.num_parameters else f", {self.num_trained:,} trained"
        print(
            f"{self.task.title}: {self.num_parameters:,} parameters{some}, "
            f"{self.total_steps:,} steps ({self.total_steps / self.steps_per_epoch:,.4g} epochs of "
            f"{self.steps_per_epoch:,}), {self.config.batch_size} {self.task.unit} a step on "
            f"{number} {kind} device{'s' if number > 1 else ''}, into {self.directory}",
            flush=True,
        )
        if start >= self.total_steps:
            print(f"It is finished already, at step {start:,}.", flush=True)
        elif start:
            print(f"Going on from the checkpoint of step {start:,}.", flush=True)
            if self.other_kernels is not None:
                print(self.other_kernels, flush=True)
        else:
            print("The first step of each batch shape compiles its program first.", flush=True)

    def _farewell(self, now: int, stop: StopRequest) -> None:
        if not self.parallel.is_main:
            return
        last = self.checkpoints.last_step
        if now < self.total_steps:
            name = signal.Signals(stop.signal).name if stop.signal else "another process's signal"
            print(
                f"Stopped by {name} after step {now:,} of {self.total_steps:,}; saved as "
                f"{self.checkpoints.path(now)}. Type the same command again to go on.",
                flush=True,
            )
            return
        best, board = self.checkpoints.best_step, f"tensorboard --logdir {self.directory}"
        lines = [
            f"Finished at step {now:,}; {len(self.programs)} program(s) compiled or loaded.",
            f"  checkpoint    {self.checkpoints.path(last if last is not None else now)}",
            *([f"  best so far   {self.checkpoints.path(best)}"] if best is not None else []),
            f"  metrics       {self.directory / 'metrics.csv'}, {self.directory / 'loss.png'}",
            *([f"  or            {board}"] if self.config.run.tensorboard else []),
        ]
        print("\n".join(lines), flush=True)


def _is_due(now: int, every: int) -> bool:
    """Whether something is done at a step; 0 is never."""
    return bool(every) and now % every == 0


def _total_steps(config: ConfigDict, steps_per_epoch: int) -> int:
    if config.total_steps is not None:
        total = int(config.total_steps)
        given = f"config.total_steps = {config.total_steps}"
    else:
        total = round(config.total_epochs * steps_per_epoch)
        given = f"config.total_epochs = {config.total_epochs} of {steps_per_epoch} steps"
    if total < 1:
        raise InputError(f"{given}: there is not one step to take")
    return total


def first_line(error: Exception) -> str:
    """Kind and first line of an error, `RuntimeError: worker 0 is dead`."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
