"""What a run writes down: metrics.csv, TensorBoard and Weights & Biases, and the loss plot."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import secrets
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from uov_jax.errors import InputError, decoration
from uov_jax.files import replacing, write_text

FIRST_COLUMNS = ("step", "epoch")
FLUSH_SECONDS = 30.0  # after which what TensorBoard shows is brought to the disk


class MetricsTable:
    """A CSV file with one row a step that grows new columns as new metrics come.

    A resumed run drops the rows of steps that it is going to take again, so no step stands twice.
    Of a run of days only the last row is held in memory.
    """

    def __init__(self, path: str | Path, resume_step: int = 0) -> None:
        """Open or create the file, and drop the rows after `resume_step`.

        Raises:
            InputError: the file exists and is not such a table; names the line.

        """
        self.path = Path(path)
        self.columns: list[str] = list(FIRST_COLUMNS)
        # The last row, which metrics of its step may join, and before it those that could not be
        # written; they stand in the file from this byte on.
        self._rows: list[dict[str, str]] = []
        self._begin = 0
        self._lacks_rows = False
        self._start(resume_step)

    def add(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Write the metrics of a step; those of a step that stands last already join its row."""
        row = {name: format(float(value), ".9g") for name, value in metrics.items()}
        row = {"step": str(step), "epoch": format(epoch, ".6g"), **row}
        if self._rows and self._rows[-1]["step"] == str(step):
            self._rows[-1].update(row)
        else:
            self._rows.append(row)
        try:
            if not self.path.exists():  # Somebody has moved it away.
                self._write_new(self.columns, ())
            names = dict.fromkeys(name for each in self._rows for name in each)
            if new_columns := [name for name in names if name not in self.columns]:
                self._widen(new_columns)
            self._write()
        except OSError as error:
            # A full disk shall not end a run that could be saved once there is room again.
            if not self._lacks_rows:
                print(
                    f"{self.path}: not written ({error.strerror}): rows are kept until they can be",
                    file=sys.stderr,
                    flush=True,
                )
            self._lacks_rows = True
        else:
            self._lacks_rows = False

    def _start(self, resume_step: int) -> None:
        """Write the rows up to a step anew, one by one."""
        with contextlib.ExitStack() as stack:
            rows: Iterator[dict[str, str]] = iter(())
            if self.path.exists():
                file = self.path.open(newline="", encoding="utf-8")
                reader = csv.DictReader(stack.enter_context(file))
                self.columns = list(reader.fieldnames or FIRST_COLUMNS)
                rows = self._checked(reader, resume_step)
            last = self._write_new(self.columns, rows)
        if last is not None:
            self._rows = [last]

    def _checked(
        self, reader: Iterable[dict[str, Any]], resume_step: int
    ) -> Iterator[dict[str, str]]:
        """The rows up to a step, without what they lack; InputError for what is none."""
        if tuple(self.columns[:2]) != FIRST_COLUMNS:
            raise InputError(
                f"{self.path}: line 1: expected a header that starts with step,epoch, "
                f"found {','.join(self.columns)!r}"
            )
        torn: InputError | None = None
        for number, row in enumerate(reader, start=2):
            if torn is not None:
                raise torn
            if None not in row and None not in row.values() and row["step"].isdigit():
                if int(row["step"]) <= resume_step:
                    yield {name: value for name, value in row.items() if value != ""}
            else:
                # A killed run may leave its last line half written.
                torn = InputError(
                    f"{self.path}: line {number}: expected {len(self.columns)} values and a "
                    f"step number, found {row}"
                )

    def _widen(self, new_columns: list[str]) -> None:
        """Write what stands before the last row anew, with more columns."""
        columns = self.columns + new_columns
        with self.path.open("rb") as file:
            settled = file.read(self._begin).decode("utf-8")
        self._write_new(columns, csv.DictReader(io.StringIO(settled, newline="")), all_settled=True)
        self.columns = columns

    def _write_new(
        self, columns: list[str], rows: Iterable[dict[str, str]], all_settled: bool = False
    ) -> dict[str, str] | None:
        """Write the whole file; returns its last row, where `_begin` is unless all are settled."""
        last = None
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            file.write(_line(columns))
            for last in rows:
                begin = file.tell()
                file.write(_line([last.get(name, "") for name in columns]))
            self._begin = file.tell() if last is None or all_settled else begin
        return last

    def _write(self) -> None:
        """Write the rows that are not settled, over what stands there of them."""
        lines = [_line([r.get(c, "") for c in self.columns]) for r in self._rows]
        with self.path.open("r+b") as file:
            file.seek(self._begin)
            file.write(b"".join(lines))
            file.truncate()
        self._begin += sum(map(len, lines[:-1]))
        del self._rows[:-1]


def _line(values: list[str]) -> bytes:
    """A line of a CSV file."""
    line = io.StringIO(newline="")
    csv.writer(line).writerow(values)
    return line.getvalue().encode()


class Writer(Protocol):
    """Takes the metrics of steps, beside the table."""

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of one step."""
        ...

    def close(self) -> None:
        """Flush everything."""
        ...


class TensorBoard:
    """Events in the folder `tensorboard` of a run, written in the caller's thread.

    tensorboardX's own `SummaryWriter` leaves that to a thread. It ends with the first error of the
    disk, and whoever adds to its queue then waits for ever.
    """

    def __init__(self, directory: Path, resume_step: int) -> None:
        """Hide the events of steps that come again."""
        # Late: it is slow to import.
        from tensorboardX.proto.event_pb2 import SessionLog
        from tensorboardX.record_writer import RecordWriter

        folder = directory / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.3f}.{socket.gethostname()}"
        self._file = RecordWriter(str(folder / name))
        self._flushed = -math.inf
        self._write(file_version="brain.Event:2")
        self._write(step=resume_step + 1, session_log=SessionLog(status=SessionLog.START))

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of one step."""
        from tensorboardX.summary import scalar

        try:
            for name, value in metrics.items():
                self._write(step=step, summary=scalar(name, value))
            if time.monotonic() - self._flushed >= FLUSH_SECONDS:
                self._file.flush()
                self._flushed = time.monotonic()
        except OSError:
            with contextlib.suppress(OSError):
                self._file.close()
            raise

    def close(self) -> None:
        """Flush everything."""
        with contextlib.closing(self._file):
            self._file.flush()

    def _write(self, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._file.write(Event(wall_time=time.time(), **content).SerializeToString())


class WeightsAndBiases:
    """A run of a project of Weights & Biases; one that is resumed goes on as the same run there.

    Where and as whom it writes is said by its own variables (WANDB_MODE, WANDB_API_KEY, ...).
    """

    def __init__(self, directory: Path, project: str, config: Mapping[str, Any]) -> None:
        """Begin, or go on with, the run whose id stands in wandb_id.txt.

        Raises:
            InputError: the package is not installed.

        """
        try:
            import wandb
        except ImportError as error:
            raise InputError(
                f"config.run.wandb_project = {project}: the package wandb is not installed: "
                "`pip install wandb`, or leave the field empty"
            ) from error
        file = directory / "wandb_id.txt"
        if not file.exists():
            write_text(file, secrets.token_hex(8))
        self._run = wandb.init(
            project=project,
            name=directory.name,
            id=file.read_text("utf-8").strip(),
            resume="allow",
            dir=str(directory),
            config=dict(config),
        )
        # Its own count of steps cannot go back, and what comes below it is dropped: all that a run
        # takes again from its last checkpoint. So the step is a metric, over which all are drawn.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of one step."""
        self._run.log({"step": step, **metrics})

    def close(self) -> None:
        """Flush everything."""
        self._run.finish()


class RunLog:
    """All logs of a run, in its directory; silent on processes other than the main one.

    A writer that fails is switched off, after a line that says why: it ends no training, and hides
    no error. What it lacks is in metrics.csv.
    """

    def __init__(
        self,
        directory: str | Path,
        resume_step: int,
        *,
        tensorboard: bool = True,
        wandb_project: str = "",
        config: Mapping[str, Any] | None = None,
        on: bool = True,
    ) -> None:
        """Open the logs and drop what a run resumed at `resume_step` will write again.

        Args:
            directory: of the run.
            resume_step: steps done before.
            tensorboard: write events.
            wandb_project: of Weights & Biases; "" for none.
            config: the run's, which Weights & Biases shows.
            on: whether this process writes.

        Raises:
            InputError: metrics.csv is another kind of file, or a writer is not installed.

        """
        self.directory = Path(directory)
        self._table: MetricsTable | None = None
        self._writers: dict[str, Writer] = {}
        if not on:
            return
        self._table = MetricsTable(self.directory / "metrics.csv", resume_step)
        if tensorboard:
            with self._switched_off_if_it_fails("TensorBoard"):
                self._writers["TensorBoard"] = TensorBoard(self.directory, resume_step)
        if wandb_project:
            # Nothing is trained yet, so what is wrong with an account or a project can be mended.
            service = WeightsAndBiases(self.directory, wandb_project, config or {})
            self._writers["Weights & Biases"] = service

    def add(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Write the metrics of one step."""
        if self._table is not None:
            self._table.add(step, epoch, metrics)
        for name, writer in [*self._writers.items()]:
            with self._switched_off_if_it_fails(name):
                writer.add(step, metrics)

    def plot(self) -> Path | None:
        """Draw loss.png from metrics.csv; None on other processes and before the first row.

        None, after a line that says why, where it cannot be drawn.
        """
        if self._table is None or "loss" not in self._table.columns:
            return None
        from uov_jax.pictures.loss import loss_plot  # Late: it imports matplotlib.

        path = self.directory / "loss.png"
        with decoration(f"The plot {path}", print):
            loss_plot(self._table.path, path)
            return path
        return None

    def close(self) -> None:
        """Flush everything."""
        for name, writer in [*self._writers.items()]:
            with self._switched_off_if_it_fails(name):
                writer.close()

    @contextlib.contextmanager
    def _switched_off_if_it_fails(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Whatever it is, days of work do not end with it.
            self._writers.pop(name, None)
            what = f"{type(error).__name__}: {error}".splitlines()[0]
            print(
                f"{name} is switched off until the next start ({what}): metrics.csv has what is "
                "missing there",
                file=sys.stderr,
                flush=True,
            )
