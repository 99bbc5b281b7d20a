"""The command `export_checkpoint` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.export_checkpoint import main

if __name__ == "__main__":
    sys.exit(main())
