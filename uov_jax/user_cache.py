"""The package's part of the user's cache directory."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache_directory() -> Path:
    """`uov_jax` in $XDG_CACHE_HOME, or in ~/.cache; it need not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "uov_jax"
