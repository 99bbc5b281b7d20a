"""The command `simulate` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.simulate import main

if __name__ == "__main__":
    sys.exit(main())
