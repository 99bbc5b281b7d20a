"""One file per command; the files in `scripts/` call them."""

from uov_jax.command_line.found_numpy import require_numpy

require_numpy()
