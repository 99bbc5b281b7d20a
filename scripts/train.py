"""The command `train` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.train import main

if __name__ == "__main__":
    sys.exit(main())
