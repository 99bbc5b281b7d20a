"""The command `prepare_rooms` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.prepare_rooms import main

if __name__ == "__main__":
    sys.exit(main())
