"""The command `make_pseudo_labels` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.make_pseudo_labels import main

if __name__ == "__main__":
    sys.exit(main())
