"""The command `query` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.query import main

if __name__ == "__main__":
    sys.exit(main())
