"""The command `dump_teacher` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.dump_teacher import main

if __name__ == "__main__":
    sys.exit(main())
