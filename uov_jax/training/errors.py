"""Telling errors that a user can mend, which end in one message, from bugs, which show where."""

from __future__ import annotations

import linecache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def message_for_user(error: BaseException) -> str | None:
    """What to print instead of a traceback, None for a bug.

    A missing file or module counts where code of this package asked for it, a ValueError only
    where this package raised it on purpose: numpy's and JAX's complaints about a call from here
    are bugs.
    """
    if type(error).__module__.partition(".")[0] == PACKAGE.name:
        return str(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return None
    file = trace.tb_frame.f_code.co_filename
    if PACKAGE not in Path(file).resolve().parents:
        return None
    if isinstance(error, FileNotFoundError | ImportError):
        return str(error)
    raised_here = linecache.getline(file, trace.tb_lineno).lstrip().startswith("raise ")
    return str(error) if isinstance(error, ValueError) and raised_here else None
