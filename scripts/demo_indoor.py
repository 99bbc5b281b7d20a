"""The command `demo_indoor` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.demo_indoor import main

if __name__ == "__main__":
    sys.exit(main())
