"""The command `evaluate` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
