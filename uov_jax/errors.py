"""Errors that a user can mend: the message is all that is shown of them. All others are bugs."""

from __future__ import annotations


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
