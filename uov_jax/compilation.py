"""JAX's persistent compilation cache: a program is compiled once per machine, not once per run."""

from __future__ import annotations

from pathlib import Path

import jax

from uov_jax.user_cache import user_cache_directory


def cache_directory(configured: str = "") -> Path:
    """The configured directory, or `uov_jax/xla` in the user's cache directory."""
    if configured:
        return Path(configured).expanduser()
    return user_cache_directory() / "xla"


def use_cache(configured: str = "") -> Path:
    """Switch the cache on; must come before the first compilation. Returns its directory."""
    directory = cache_directory(configured)
    directory.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(directory))
    return directory


def shapes(batch: object) -> tuple[object, ...]:
    """Shapes and types of a batch: batches that differ in them need different programs."""
    return tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(batch))
