"""Chains of commands: typed one after the other, and what they leave in their tables."""

from __future__ import annotations

import csv
import dataclasses
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from uov_jax.command_line.typed import as_typed, program
from uov_jax.errors import InputError, MissingFileError
from uov_jax.evaluation.tables import Style
from uov_jax.files import write_text
from uov_jax.readable import duration
from uov_jax.signals import StopRequest

SECONDS_TO_SAY_DONE = 8.0  # of a stage that is finished already


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command of the chain.

    Attributes:
        title: what it does.
        command: its name.
        arguments: of the command.
        result: exists once the stage is finished.
        seconds: that it takes on two cores.
        gigabytes: of checkpoints and the like that it leaves.

    """

    title: str
    command: str
    arguments: tuple[str, ...]
    result: Path
    seconds: float
    gigabytes: float = 0.0

    @property
    def words(self) -> str:
        """The command as it is typed."""
        return shlex.join(["python", f"scripts/{self.command}.py", *self.arguments])


def run(stages: Sequence[Stage]) -> int:
    """Run stages one after the other; returns the exit status of the first that fails, or 0."""
    expected = [SECONDS_TO_SAY_DONE if s.result.exists() else s.seconds for s in stages]
    size = sum(stage.gigabytes for stage in stages if not stage.result.exists())
    print(
        f"{len(stages)} stages: about {duration(sum(expected))} on two cores, and {size:.1f} GB.",
        flush=True,
    )
    begin = time.monotonic()
    trained = planned = 0.0
    for index, stage in enumerate(stages):
        # Only trainings are long enough to tell how fast this machine is.
        pace = trained / planned if planned else 1.0
        left = duration(pace * sum(expected[index:]))
        print(f"\n[{index + 1}/{len(stages)}] {stage.title} (about {left} to go)", flush=True)
        print(as_typed(stage.words), flush=True)
        tells = stage.command == "train" and not stage.result.exists()
        start = time.monotonic()
        status = run_stage(stage)
        if status:
            print(
                f"\nStopped in stage {index + 1} of {len(stages)}, {stage.title}. "
                "Type the same command again to go on.",
                file=sys.stderr,
            )
            return status
        if tells:
            trained += time.monotonic() - start
            planned += expected[index]
    print(f"\nAll stages took {duration(time.monotonic() - begin)}.")
    return 0


def run_stage(stage: Stage) -> int:
    """Run the command of a stage; a stop that is asked for reaches it, and it saves its state."""
    # What the console started goes on in its words.
    name, *words = ("console", stage.command) if program() else (stage.command,)
    code = f"import sys; from uov_jax.command_line.{name} import main; sys.exit(main())"
    process = subprocess.Popen([sys.executable, "-c", code, *words, *stage.arguments])
    with StopRequest() as stop:
        passed_on = False
        while True:
            try:
                status = process.wait(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                # Ctrl-C reaches the whole foreground group by itself.
                if stop.signal == signal.SIGTERM and not passed_on:
                    process.terminate()
                    passed_on = True
    if stop.signal is not None and not status:
        return 128 + stop.signal
    return status if status >= 0 else 128 - status


def write_report(
    output: Path, title: str, table: Callable[[Style], str], lines: Sequence[str], seeds: int
) -> None:
    """Print the table of some chains with what it shows; write it as text and as markdown."""
    styles: tuple[Style, ...] = ("text", "markdown")
    texts = {style: "\n".join([title, "", table(style), "", *lines]) for style in styles}
    print(f"\n{texts['text']}\n")
    name = "table" if seeds == 1 else f"table-{seeds}-seeds"
    written = [output / f"{name}.txt", output / f"{name}.md"]
    for path, text in zip(written, texts.values(), strict=True):
        write_text(path, text)
    print(f"Wrote {' and '.join(map(str, written))}")


def mean_iou(table: Path, column: str) -> float:
    """The mean IoU of a column of one of `evaluate`'s tables."""
    for row in read_rows(table):
        if row["class"] == "mean IoU":
            return number(row, column, table)
    raise InputError(f"{table}: no row 'mean IoU'")


def require_result(file: Path) -> None:
    """MissingFileError unless a stage has left a file."""
    if not file.is_file():
        raise MissingFileError(f"{file}: the stage that writes this table has left none")


def last_metric(directory: Path, name: str) -> float:
    """A metric of the last evaluation of a run."""
    file = directory / "metrics.csv"
    rows = [row for row in read_rows(file) if row.get(name)]
    if not rows:
        raise InputError(f"{file}: no value of {name!r}")
    return number(rows[-1], name, file)


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by the names of its columns."""
    require_result(file)
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def number(row: dict[str, str], column: str, file: Path) -> float:
    """A number of a row (ValueError naming file and column where there is none)."""
    try:
        return float(row[column])
    except (KeyError, ValueError) as error:
        raise InputError(f"{file}: no number in column {column!r}") from error
