"""The command `predict` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.predict import main

if __name__ == "__main__":
    sys.exit(main())
