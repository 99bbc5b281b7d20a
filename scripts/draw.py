"""The command `draw` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.draw import main

if __name__ == "__main__":
    sys.exit(main())
