"""The console's one program, `uov-jax`: a sub-command for every command of this folder.

It imports none of them before one is asked for, since most import JAX.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from uov_jax.command_line.command import UNREAD, is_unread
from uov_jax.command_line.typed import PROGRAM, as_typed, by_console, console_name

FOLDER = Path(__file__).parent
UNKNOWN = 2  # the status of parsers for what they do not know
# A module with these two is a command.
COMMAND = {"parse", "main"}
HEAD = f"""\
usage: {PROGRAM} COMMAND ...

3D semantic segmentation without 3D labels, in JAX. For example:

    {PROGRAM} simulate
    {PROGRAM} train --config tmp_san:sim

`{PROGRAM} COMMAND --help` has the options of one and examples. The commands, with - or _:
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sub-command that the arguments begin with; returns the exit status."""
    words = sys.argv[1:] if arguments is None else [*arguments]
    if not words or words[0] in ("-h", "--help"):
        with contextlib.suppress(BrokenPipeError):
            print(overview(shutil.get_terminal_size().columns))
        return UNREAD if is_unread() else 0
    name = words[0].replace("-", "_")
    known = commands()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {console_name(near[0])}?" if near else f"{PROGRAM} --help lists them"
        print(f"error: {words[0]}: there is no such command; {hint}", file=sys.stderr)
        return UNKNOWN
    with by_console(name):
        status: int = importlib.import_module(f"{__package__}.{name}").main(words[1:])
    return status


def commands() -> dict[str, str]:
    """The first sentence of every command's documentation by its module's name, none imported."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        module = ast.parse(path.read_text("utf-8"))
        if {node.name for node in module.body if isinstance(node, ast.FunctionDef)} >= COMMAND:
            found[path.stem] = (ast.get_docstring(module) or "").partition("\n")[0]
    return found


def overview(columns: int) -> str:
    """The help of the program as a whole, for a terminal of so many columns."""
    known = commands()
    margin = 4 + max(map(len, known))
    width = max(columns, margin + 40)
    lines = [
        textwrap.fill(
            as_typed(sentence),
            width,
            initial_indent=f"  {console_name(name)}".ljust(margin),
            subsequent_indent=" " * margin,
        )
        for name, sentence in known.items()
    ]
    return "\n".join([HEAD, *lines])
