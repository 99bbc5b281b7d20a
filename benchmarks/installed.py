"""Which optional packages can be imported, and what is wrong with those that cannot."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import textwrap

LONGEST = 240  # characters of an error: a linker's can go on for pages


def usable(package: str) -> bool:
    """Whether a package is installed and can be imported."""
    return importlib.util.find_spec(package) is not None and failure(package) is None


@functools.cache
def failure(package: str, module: str | None = None) -> str | None:
    """What is wrong with an installed package, in one line; None if its import succeeds.

    Args:
        package: name of the package, for the line.
        module: what is imported to find out; the package itself by default.

    """
    try:
        importlib.import_module(package if module is None else module)
    # A binary of another build fails as it likes (OSError, ImportError, RuntimeError, ...), and
    # some packages end the process on a machine that they do not support.
    except (Exception, SystemExit) as error:
        kind, message = type(error).__name__, str(error).strip()
        reason = textwrap.shorten(f"{kind}: {message}" if message else kind, LONGEST)
        return f"{package}: installed, but does not import: {reason}"
    return None
