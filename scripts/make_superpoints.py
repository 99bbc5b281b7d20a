"""The command `make_superpoints` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.make_superpoints import main

if __name__ == "__main__":
    sys.exit(main())
