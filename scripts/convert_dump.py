"""The command `convert_dump` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.convert_dump import main

if __name__ == "__main__":
    sys.exit(main())
