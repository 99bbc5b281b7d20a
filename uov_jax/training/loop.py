"""The training loop, the only one: steps, logs, evaluations, checkpoints, resuming, stopping."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
from ml_collections import ConfigDict

from uov_jax import compilation, sparse
from uov_jax.checkpoints import kernels, lock, state
from uov_jax.checkpoints.run import Restored, RunCheckpoints, has_checkpoint
from uov_jax.errors import InputError, MissingFileError, UserError
from uov_jax.files import write_text
from uov_jax.quirks import quirks_of
from uov_jax.signals import StopRequest
from uov_jax.training import agreement, broken_step, device_memory, step, usage
from uov_jax.training.broken_step import BrokenStep
from uov_jax.training.common_steps import CommonSteps
from uov_jax.training.geometry import Geometry, changed_by_micro_batches
from uov_jax.training.hosts import HostsError
from uov_jax.training.logging import RunLog
from uov_jax.training.optimizer import FROZEN, build_optimizer
from uov_jax.training.parallel import Parallel
from uov_jax.training.profile import Profile
from uov_jax.training.progress import Progress
from uov_jax.training.shared_evaluation import EvaluationFailedError, SharedEvaluation
from uov_jax.training.step import before_broken_step
from uov_jax.training.task import Task


class NonFiniteLossError(InputError):
    """The loss or its gradient is not a number any more; names the step."""


@dataclasses.dataclass(frozen=True)
class Result:
    """How a call of `train` ended.

    Attributes:
        step: steps done.
        total_steps: steps of the whole run.
        signal: the signal that stopped it, on whichever process; None if it came to its end.
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
        NonFiniteLossError: loss or gradient became infinite or not a number; what
            scripts/replay.py needs to run that step again is kept.
        CheckpointError: the directory's checkpoint belongs to another run.
        DeviceMemoryError: a device has too little memory.
        DirectoryInUseError: another process writes into the directory.
        NotSavedError: checkpoints cannot be written.
        HostsError: another process of the run failed, is lost, or does not fit to this one.
        InputError: the config does not make sense.
        UserError: the last evaluation failed; the training is finished and saved, and the same call
            evaluates again.

    """
    sparse.keep_freed_memory()
    compilation.use_cache(config.run.compilation_cache)
    parallel = Parallel(devices)
    with contextlib.ExitStack() as stack:
        stack.enter_context(parallel.hosts.run())
        stop = stack.enter_context(StopRequest())
        run = _Run(task, config, Path(directory), parallel, stop, stack)
        stack.callback(run.close)
        return run.go()


@dataclasses.dataclass(frozen=True)
class _Pending:
    """A step whose metrics are looked at while the next one runs.

    Attributes:
        step: its number, from 1.
        batch: of this process.
        metrics: on the devices.
        waited: seconds until the batch was built, without those for other processes.

    """

    step: int
    batch: Any
    metrics: Any
    waited: float


def card_of(task: Task) -> dict[str, Any] | None:
    """What checkpoints say of a task's network, as plain values."""
    card = task.card()
    return None if card is None else card.as_json()


class _Run:
    """One call of `train`: what stays the same over its steps, and the steps."""

    def __init__(
        self,
        task: Task,
        config: ConfigDict,
        directory: Path,
        parallel: Parallel,
        stop: StopRequest,
        stack: contextlib.ExitStack,
    ) -> None:
        self.task, self.config, self.directory, self.parallel = task, config, directory, parallel
        self.hosts, self.stop = parallel.hosts, stop
        self.lock: lock.Lock | None = None
        self.geometry = Geometry.of(config, parallel.num_devices)
        for field in (
            "log_every_steps",
            "checkpoint_every_steps",
            "checkpoint_every_minutes",
            "evaluate_every_epochs",
            "profile_steps",
        ):
            if config.run[field] < 0:
                raise InputError(
                    f"config.run.{field} = {config.run[field]}: expected 0, for never, or more"
                )
        keep = config.run.keep_checkpoints
        if keep < 1:
            raise InputError(f"config.run.keep_checkpoints = {keep}: expected at least 1")
        self.batches = task.train_batches(len(parallel.devices))
        self.steps_per_epoch = int(self.batches.steps_per_epoch)
        self.total_steps = _total_steps(config, self.steps_per_epoch)
        model = step.initial_model(task, config.seed)
        if not self.hosts.of_main("whether there is a checkpoint", has_checkpoint(directory)):
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
        self.train_step = step.spread_step(
            task,
            self.skeleton,
            optimizer,
            rate,
            parallel,
            parameters,
            self.geometry.micro_batches,
        )
        self.predict = parallel.in_turn(state.prediction(self.skeleton))
        if parallel.is_main:
            self.lock = lock.lock(directory)
            stack.callback(self.lock.release)
        self.checkpoints = RunCheckpoints(
            directory,
            config.to_dict(),
            task.identity(),
            keep=keep,
            total_steps=self.total_steps,
            writes=parallel.is_main,
            card=card_of(task) if parallel.is_main else None,
        )
        self.saved_at = time.monotonic()
        self.common = CommonSteps(self.hosts, stop)
        self.first_kernels = sparse.current_kernels()
        self.other_kernels: str | None = None
        self.earlier_micro_batches = self.geometry.micro_batches
        self.iterator: Any = None
        self.device_state: Any = None
        self.log: RunLog | None = None
        self.progress: Progress | None = None
        self.profile: Profile | None = None
        self.programs: set[Any] = set()
        self.compiled_since_look = False
        self.metrics: dict[str, float] = {}
        self.failed_evaluation: UserError | OSError | None = None

    def go(self) -> Result:
        """Take the steps that are left."""
        start = self._begin()
        self._greet(start)
        self._open_logs(start)
        assert self.log is not None
        assert self.progress is not None
        evaluated = self.hosts.of_main("evaluated", self.checkpoints.is_evaluated(start))
        makes_up = self._evaluation_is_due(start) and not evaluated
        if makes_up:
            # The run was stopped between the step and its evaluation.
            self._evaluate(start)
        now = self._take_steps(start)
        self.checkpoints.wait()
        self.progress.close()
        if now > start or makes_up:
            self.log.plot()
        self._farewell(now)
        self.hosts.exchange("the end", None)
        if self.failed_evaluation is not None and now >= self.total_steps:
            raise self.failed_evaluation
        return Result(now, self.total_steps, self.common.signal(), self.metrics, self.directory)

    def _open_logs(self, start: int) -> None:
        is_main, run = self.parallel.is_main, self.config.run
        self.log = RunLog(
            self.directory,
            start,
            tensorboard=run.tensorboard,
            wandb_project=run.wandb_project,
            config=self.config.to_dict(),
            on=is_main,
        )
        self.progress = Progress(
            start, self.total_steps, self.config.batch_size, self.task.unit, on=is_main
        )
        self.profile = Profile(self.directory, start, run.profile_steps if is_main else 0)

    def _take_steps(self, start: int) -> int:
        """All steps up to the end, or to a stop; the number of steps done, which are saved."""
        assert self.progress is not None
        assert self.profile is not None
        now = start
        pending: _Pending | None = None
        while now < self.total_steps:
            try:
                batch = self._next_batch(now)
            except Exception as error:
                self._keep(now, pending, error)
                raise
            if batch is None:
                break
            self._note_program(batch)
            self.profile.before_step(now + 1)
            with jax.transfer_guard("disallow"), self._memory(now + 1), self.hosts.blaming():
                placed = self.parallel.shard(batch)
                self.device_state, metrics = self.train_step(self.device_state, placed)
            now += 1
            if pending is not None:
                self._look_at(pending)
            pending = _Pending(now, batch, metrics, self.iterator.wait_seconds)
            saves, evaluates = self._save_is_due(now), self._evaluation_is_due(now)
            if saves or evaluates or now == self.total_steps:
                self._look_at(pending)
                pending = None
                self._save(now)
            if evaluates:
                self._evaluate(now)
            if saves or evaluates:
                self.progress.pause()
        if pending is not None:
            self._look_at(pending)
            self._save(now)
        return now

    def close(self) -> None:
        """Release files; never hides the error that led here."""
        with contextlib.ExitStack() as stack:
            stack.callback(sparse.use_kernels, self.first_kernels)
            stack.callback(self.checkpoints.close)
            if hasattr(self.iterator, "close"):
                stack.callback(self.iterator.close)
            if self.log is not None:
                stack.callback(self.log.close)
            if self.progress is not None:
                stack.callback(self.progress.close)
            if self.profile is not None:
                stack.callback(self.profile.close)

    def _begin(self) -> int:
        """Where to start, in this order: the directory's last checkpoint; the task's weights."""
        start = 0
        restored = self._restore()
        if restored is not None:
            self.host_state, start = restored.state, restored.step
            self.other_kernels = kernels.go_on_with(restored.kernels)
            self.earlier_micro_batches = restored.micro_batches
            self.checkpoints.forget_evaluations_after(start)
        self._agree_on_everything(start)
        self.common = CommonSteps(self.hosts, self.stop, start)
        several = self.hosts.processes > 1
        self.iterator = self.batches.starting_at(start, *((self.common.agree,) if several else ()))
        self.device_state = self.parallel.replicate(self.host_state)
        self.host_state = None
        if self.parallel.is_main:
            text = json.dumps(self.config.to_dict(), indent=2, default=str)
            write_text(self.directory / "config.json", text)
        return start

    def _restore(self) -> Restored | None:
        """The checkpoint to go on from: the main process finds it, the others read the same."""
        restored = None
        if self.parallel.is_main and self.checkpoints.last_step is not None:
            restored = self.checkpoints.restore(self.host_state)
        found = self.hosts.of_main("the checkpoint", restored and restored.step)
        if found is None or self.parallel.is_main:
            return restored
        try:
            return self.checkpoints.restore(self.host_state, found)
        except MissingFileError as error:
            raise InputError(
                f"{self.checkpoints.path(found)}: {self.hosts.name(0)} goes on from this "
                "checkpoint, which is not there for this process: --workdir must be on a file "
                "system that all hosts share"
            ) from error

    def _agree_on_everything(self, start: int) -> None:
        """Before the first step: another recipe, program or file on one host spoils all."""
        if self.hosts.processes > 1:
            samples = self.batches.fingerprint()
            self.hosts.agree(
                agreement.facts(
                    self.config,
                    self.task.identity(),
                    samples,
                    start,
                    self.host_state,
                    self.parallel.devices,
                )
            )

    def _next_batch(self, now: int) -> Any:
        """The batch of the step after `now` steps; None if all stop before it."""
        assert self.progress is not None
        if self.hosts.processes == 1 and self.common.ends_at(now):
            return None
        try:
            batch = next(self.iterator)
        except HostsError:
            raise
        except Exception as error:
            # The signal may have ended what builds batches.
            if self.hosts.processes > 1 and self.common.agreed == now:
                self.common.agree(now, 0, None if self.stop else first_line(error))
            if not self.stop:
                raise
            self.progress.say(f"Not built any more: {first_line(error)}")
            return None
        return None if self.hosts.processes > 1 and self.common.ends_at(now) else batch

    def _note_program(self, batch: Any) -> None:
        """A batch of new shapes is about to compile another program."""
        for part in batch if self.geometry.micro_batches > 1 else (batch,):
            shapes = compilation.shapes(part)
            if shapes not in self.programs:
                self.programs.add(shapes)
                self.compiled_since_look = True

    def _look_at(self, pending: _Pending) -> None:
        """Read a step's metrics, stop the run if they are not finite, and log them."""
        assert self.progress is not None
        assert self.log is not None
        assert self.profile is not None
        with self._memory(pending.step), self.hosts.blaming():
            found = self.parallel.first(pending.metrics)
        values = {name: float(value) for name, value in found.items()}
        sparse.raise_fault()
        now, epoch = pending.step, pending.step / self.steps_per_epoch
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(values[name]):
                self._stop_at_broken_step(name, values[name], pending)
        rate = self.progress.step(now, values["loss"], self.compiled_since_look, pending.waited)
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

    def _memory(self, now: int) -> contextlib.AbstractContextManager[None]:
        device, left = self.parallel.devices[0], self.checkpoints.what_is_left
        return device_memory.explained(self.config, self.geometry, device, now, left)

    def _stop_at_broken_step(self, name: str, value: float, pending: _Pending) -> NoReturn:
        """Keep state and batch of a step that was not finite, and end the run."""
        now, epoch = pending.step, pending.step / self.steps_per_epoch
        facts = BrokenStep(
            step=now,
            seed=self.config.seed,
            devices=self.parallel.num_devices,
            processes=self.hosts.processes,
            what=name,
            value=str(value),
        )
        folder, left = facts.folder(self.directory), self.checkpoints.what_is_left()
        is_main = self.parallel.is_main
        try:
            if is_main:
                # The step, and one that has begun since, left the state as it was.
                before = before_broken_step(self.parallel.first(self.device_state))
                self.checkpoints.save_beside(folder / broken_step.STATE, now - 1, before)
            broken_step.keep(folder, facts if is_main else None, pending.batch, self.hosts.process)
            kept = (
                f"The state before it and its batch are in {folder}: python scripts/replay.py "
                f"{self.directory} runs it again and names what is not finite first"
            )
        except (OSError, UserError) as error:
            kept = f"Neither its state nor its batch could be kept: {error}"
        # The first process to end ends the others, so none does before all have kept theirs.
        with contextlib.suppress(HostsError):
            self.hosts.exchange("what is kept of a step", now, channel="broken step")
        raise NonFiniteLossError(
            f"{name} is {value} at step {now} (epoch {epoch:.2f}); the run stops here. {kept}. "
            f"{left}. A smaller --config.optimizer.learning_rate or a "
            "longer --config.schedule.warmup_epochs, in a new --workdir, may help; see "
            f"{self.directory / 'metrics.csv'} for how it came"
        )

    def _save_is_due(self, now: int) -> bool:
        """By steps, or by time, which is the main process's: no other one saves."""
        minutes = self.config.run.checkpoint_every_minutes
        by_time = minutes and time.monotonic() - self.saved_at >= 60.0 * minutes
        by_time = bool(by_time) and self.parallel.is_main
        return by_time or _is_due(now, self.config.run.checkpoint_every_steps)

    def _save(self, now: int) -> None:
        self.saved_at = time.monotonic()
        if self.lock is not None:
            host_state = self.parallel.first(self.device_state)
            self.checkpoints.save(now, host_state, self.lock.require)

    def _keep(self, now: int, pending: _Pending | None, error: Exception) -> None:
        """Save the last step before an error ends the run; broken losses stay out.

        After the loss of another process its last step may be broken too.
        """
        if pending is None:
            return
        lost = isinstance(error, HostsError) and self.hosts.failure is not None
        with contextlib.suppress(*((Exception,) if lost else ())):
            self._look_at(pending)
            self._save(now)
            self.checkpoints.wait()

    def _evaluation_is_due(self, now: int) -> bool:
        every = self.config.run.evaluate_every_epochs
        if not every or not now:
            return False
        return now == self.total_steps or now % max(1, round(every * self.steps_per_epoch)) == 0

    def _evaluate(self, now: int) -> None:
        """Validate, every process its share; all come to the same metrics, or to none."""
        assert self.progress is not None
        assert self.log is not None
        self.failed_evaluation = None
        devices = len(self.parallel.devices)
        evaluation = SharedEvaluation(self.hosts, now, self.common.asked_to_stop, devices)

        def predict(inputs: Mapping[str, Any]) -> jax.Array:
            evaluation.go_on()
            return self.predict(self.device_state, inputs)

        self.progress.say(f"Evaluating at step {now:,}.")
        try:
            with self._memory(now), evaluation as share:
                found = self.task.evaluate(predict, self.directory, now, share)
        except EvaluationFailedError as error:
            # One sweep that cannot be read must not end the training, now and at every start.
            cause = error.__cause__
            self.failed_evaluation = cause if isinstance(cause, UserError | OSError) else error
            what = f"The evaluation at step {now:,} failed: {error}"
            self.progress.say(f"{what}. Training goes on, and evaluates again when it is due.")
        else:
            if evaluation.done:
                self.metrics = found
                self.log.add(now, now / self.steps_per_epoch, found)
                self.checkpoints.record_evaluation(now, self.task.score(found))
        sparse.give_freed_memory_back()
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
            f"{number} {kind} device{'s' if number > 1 else ''}{self.geometry.described()}, into "
            f"{self.directory}",
            flush=True,
        )
        if start >= self.total_steps:
            print(f"It is finished already, at step {start:,}.", flush=True)
        elif start:
            print(f"Going on from the checkpoint of step {start:,}.", flush=True)
            if self.other_kernels is not None:
                print(self.other_kernels, flush=True)
            self._say_other_micro_batches(start)
        else:
            print("The first step of each batch shape compiles its program first.", flush=True)

    def _say_other_micro_batches(self, start: int) -> None:
        before, now = self.earlier_micro_batches, self.geometry.micro_batches
        if now == before:
            return
        changed = changed_by_micro_batches(self.config)
        how = "only roundings differ from those of before"
        if changed:
            how = f"{changed} see other parts of a step, so results differ a little"
        print(
            f"config.accumulate_steps is {now} from step {start + 1:,} on, it was {before}: {how}.",
            flush=True,
        )

    def _farewell(self, now: int) -> None:
        if not self.parallel.is_main:
            return
        last = self.checkpoints.last_step
        if now < self.total_steps:
            why, total = self.common.why(), self.total_steps
            print(
                f"Stopped by {why} after step {now:,} of {total:,}; saved as "
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
