"""JAX's persistent compilation cache: a program is compiled once per machine, not once per run."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import jax

from uov_jax.user_cache import user_cache_directory


def use_cache(configured: str = "") -> Path | None:
    """Switch the cache on; must come before the first compilation.

    Args:
        configured: the directory; "" leaves it to JAX's own setting (JAX_COMPILATION_CACHE_DIR)
            where there is one, else takes `uov_jax/xla` in the user's cache directory.

    Returns:
        The directory; None where there is no cache. One that cannot be written is a warning.

    """
    chosen = getattr(
        jax.config, "jax_compilation_cache_dir", None
    )  # by JAX's own variable, or by a caller
    if not configured and chosen:
        return Path(chosen)
    directory = Path(configured).expanduser() if configured else user_cache_directory()
    if directory is None:
        warnings.warn(
            "There is no home directory to keep compiled programs in, so they are compiled in "
            "every run: XDG_CACHE_HOME or JAX_COMPILATION_CACHE_DIR names another place",
            stacklevel=2,
        )
        return None
    if not configured:
        directory /= "xla"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass  # Rights to a folder are known for sure once a file is in it.
    except OSError as error:
        warnings.warn(
            f"{directory}: compiled programs cannot be kept there ({error.strerror or error}), so "
            "they are compiled in every run: --config.run.compilation_cache, XDG_CACHE_HOME or "
            "JAX_COMPILATION_CACHE_DIR names another place",
            stacklevel=2,
        )
        return None
    jax.config.update("jax_compilation_cache_dir", str(directory))
    return directory


def shapes(batch: object) -> tuple[object, ...]:
    """Shapes and types of a batch: batches that differ in them need different programs."""
    return tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(batch))
