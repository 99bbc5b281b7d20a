"""Errors that a user can mend: the message is all that is shown of them. All others are bugs."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator


class UserError(Exception):
    """Something of the user's is wrong; the message names the place, and what was expected.

    Commands print the message and end with status 1, without a traceback.
    """


class InputError(UserError, ValueError):
    """A file, a setting or an argument has a content that cannot be used."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder is not where it was looked for; the message says how to get it."""


class MissingPackageError(UserError, ImportError):
    """An optional package is needed; the message has the line that installs it."""


class NotFiniteError(UserError, ArithmeticError):
    """A trained network gives numbers that are not finite."""


@contextlib.contextmanager
def decoration(what: str, say: Callable[[str], object]) -> Iterator[None]:
    """Let a picture fail without ending the work that it decorates.

    Args:
        what: is left out then, such as "the picture of sweep 7".
        say: takes the line that says so, with the traceback where it is a bug.

    """
    try:
        yield
    except (UserError, OSError) as error:
        say(f"{what} is left out: {error}")
    except Exception:  # Whatever it is, days of work do not end with it.
        say(f"{what} is left out, which is a bug of this program:\n{traceback.format_exc()}")
