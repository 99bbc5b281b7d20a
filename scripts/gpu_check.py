"""The command `gpu_check` of uov_jax; see `--help`."""

import sys
from pathlib import Path

# It also runs where the package is not installed.
sys.path.insert(0, str(Path(__file__).parents[1]))

from uov_jax.command_line.gpu_check import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
