"""How commands are typed: as scripts of a checkout, or as sub-commands of the console's `uov-jax`.

Everything is written in the first way, in documentation, messages and next steps alike; where the
console started a command, what it shows is put into the second.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextvars import ContextVar

PROGRAM = "uov-jax"
# Not in the middle of a longer path, which is somebody's own.
SCRIPT = re.compile(r"(?:\bpython )?(?<![\w./-])scripts/(\w+)\.py\b")
RECIPE = re.compile(r"(?<![\w./-])configs/([\w*]+)\.py\b")
_started: ContextVar[str] = ContextVar("_started", default="")


@contextlib.contextmanager
def by_console(command: str) -> Iterator[None]:
    """Let this be the console's command, by its module's name, for as long as it runs."""
    token = _started.set(command)
    try:
        yield
    finally:
        _started.reset(token)


def program() -> str | None:
    """What the console's user typed to start the command, None for a script."""
    return console_words(_started.get()) if _started.get() else None


def as_typed(text: str) -> str:
    """A text with its commands and recipes as they are typed here."""
    if not _started.get():
        return text
    text = SCRIPT.sub(lambda found: console_words(found[1]), text)
    return RECIPE.sub(r"\1", text)


def console_words(command: str) -> str:
    """A command by its module's name as the console's user types it: `uov-jax draw-rooms`."""
    return f"{PROGRAM} {console_name(command)}"


def console_name(command: str) -> str:
    """The sub-command of a module's name."""
    return command.replace("_", "-")
