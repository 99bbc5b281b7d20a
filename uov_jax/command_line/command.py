"""What all commands share: their parser, how they end, and what they say of mistakes."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import select
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from absl import logging

from uov_jax import processors
from uov_jax.command_line.typed import as_typed, program
from uov_jax.errors import UserError
from uov_jax.files import expand_home
from uov_jax.job_array import Shard, parse_shard, shard_from_environment, unproven_tasks

STOPPED = 130  # as a shell says it of Ctrl-C
UNREAD = 141  # as a shell says it of a program whose reader, such as `head`, has gone
GOES_ON = "The same command goes on from here."


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help shows a command's own documentation as it stands."""
    made = _Parser(
        prog=program(),
        description=as_typed(description or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    # Options that are paths are declared as type=Path.
    made.register("type", Path, home_expanded)
    return made


class _Parser(argparse.ArgumentParser):
    """One whose help may be read in part."""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End the program, in silence where nobody reads its help any more."""
        super().exit(UNREAD if status == 0 and is_unread() else status, message)


def is_unread() -> bool:
    """Whether what reads this program's output has gone, of which nothing more is said then."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):  # It is no file, or closed.
        return False
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    looking = select.poll()
    looking.register(output, select.POLLOUT)
    # Of what could not be written a part is forgotten, so that flushing alone tells nothing.
    if not any(state & (select.POLLERR | select.POLLHUP) for _, state in looking.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)  # Python flushes once more at the end.
    return True


def home_expanded(path: str) -> Path:
    """The type of an option that is a path: with the home in the place of a leading ~."""
    try:
        return expand_home(path)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def path_text(path: str) -> str:
    """The type of an option that may be a path, kept as it is typed but for a leading ~."""
    return str(home_expanded(path)) if path.startswith("~") else path


def add_vocabulary(parser: argparse.ArgumentParser) -> None:
    """The option that names the words."""
    parser.add_argument(
        "--vocabulary", type=path_text, default="nuscenes", help="name or file of the dictionary"
    )


def at_least(smallest: int) -> Callable[[str], int]:
    """The type of an option that is a whole number, none smaller than this."""

    def number(text: str) -> int:
        value = int(text)
        if value < smallest:
            raise argparse.ArgumentTypeError(f"{text}: expected at least {smallest}")
        return value

    return number


def add_shard(parser: argparse.ArgumentParser) -> None:
    """The option that names a share of the work."""
    parser.add_argument(
        "--shard",
        help="3/16: the third of 16 shares; by default what the scheduler's variables say",
    )


def shard_of(options: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Shard:
    """The share that `--shard` or a scheduler's variables say, the whole where neither does.

    Where a Slurm job has tasks of which nothing tells that this process is one, it says so.
    """
    if options.shard:
        return parse_shard(options.shard)
    shard = shard_from_environment(environment)
    if shard.total == 1 and (tasks := unproven_tasks(environment)):
        print(
            f"The job has {tasks} tasks, but this process was not started by srun as one of them, "
            "so it does everything: `srun python ...` gives each its share."
        )
    return shard


def say_predict(checkpoint: str | Path) -> None:
    """Say how a network labels clouds of the reader's own."""
    where = shlex.quote(str(checkpoint))
    print(
        as_typed(f"Labels for your own clouds: python scripts/predict.py {where} FILE_OR_FOLDER"),
        flush=True,
    )


def say_next(*commands: str) -> None:
    """Say what can be typed now."""
    for number, words in enumerate(commands):
        print(as_typed(f"  or: {words}" if number else f"Next: {words}"), flush=True)


def run(work: Callable[[], int | None], stopped: str = GOES_ON) -> int:
    """Do a command's work; returns its exit status, 0 for None.

    What a user can mend ends in one line on standard error and status 1: `UserError`, and an
    OSError that names its file. Everything else is a bug and shows where it is.

    Args:
        work: the command.
        stopped: what to say after Ctrl-C.

    """
    processors.limit_libraries()
    logging.set_verbosity(logging.ERROR)  # Orbax warns of a file that only its newest format has.
    for stream in (sys.stdout, sys.stderr):
        # Names of classes and files may have letters that the terminal's encoding lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return work() or 0
    except KeyboardInterrupt:
        print(f"\nStopped. {stopped}", file=sys.stderr)
        return STOPPED
    except UserError as error:
        print(as_typed(f"error: {error}"), file=sys.stderr)
    except RuntimeError as error:
        from uov_jax.sparse.engine import EngineMissingError  # Late: they import JAX.
        from uov_jax.sparse.kernels import KernelsError
        from uov_jax.training.device_memory import EXHAUSTED

        if EXHAUSTED in str(error):
            print(
                f"error: a device has too little memory: {str(error).splitlines()[0]}. Take one "
                "with more, or the machine's own (JAX_PLATFORMS=cpu)",
                file=sys.stderr,
            )
        elif isinstance(error, EngineMissingError | KernelsError):
            print(f"error: {error}", file=sys.stderr)
        else:
            raise
    except OSError as error:
        if isinstance(error, BrokenPipeError) and is_unread():
            return UNREAD
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
    return 1
