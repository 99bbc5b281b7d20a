"""Whether the NumPy that is found can be used: another may hide that of the environment."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

NEEDED = 2  # major version, as JAX asks for it


def require_numpy() -> None:
    """End in one line, with status 1, where NumPy is missing, broken or too old.

    All else that is imported builds on it, and fails with pages that do not name the cause: most
    often PYTHONPATH, whose packages go before those of the environment, as after sourcing ROS.
    """
    trouble = _trouble()
    if trouble:
        sys.exit(f"error: {trouble}")


def _trouble() -> str | None:
    spec = importlib.util.find_spec("numpy")
    if spec is None or spec.origin is None:
        return (
            f"{sys.executable} has no NumPy: use the Python of the environment that `make build` "
            "makes, .venv/bin/python"
        )
    place = spec.origin
    try:
        import numpy
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return f"the NumPy in {place} cannot be imported ({first}). {_remedy(place)}"
    version = getattr(numpy, "__version__", "0")
    if int(version.partition(".")[0]) < NEEDED:
        return f"{place} is NumPy {version}, but {NEEDED}.0 or newer is needed. {_remedy(place)}"
    return None


def _remedy(place: str) -> str:
    """What helps against the NumPy in a file."""
    folders = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    for folder in folders:
        if Path(place).resolve().is_relative_to(Path(folder).resolve()):
            return (
                f"PYTHONPATH names {folder}, as a sourced ROS does, and goes before the packages "
                "of the environment: `unset PYTHONPATH` first"
            )
    return "`make build` makes an environment with all that is needed, in .venv"
