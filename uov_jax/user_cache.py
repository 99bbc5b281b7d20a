"""The package's part of the user's cache directory, where there is one."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache_directory() -> Path | None:
    """`uov_jax` in $XDG_CACHE_HOME, or in ~/.cache; it need not exist yet. None without a home."""
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "uov_jax"
    try:
        return Path.home() / ".cache" / "uov_jax"
    except RuntimeError:  # A user without an entry and without $HOME, as in containers.
        return None
