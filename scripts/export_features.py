"""The command `export_features` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.export_features import main

if __name__ == "__main__":
    sys.exit(main())
