"""The command `replay` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.replay import main

if __name__ == "__main__":
    sys.exit(main())
