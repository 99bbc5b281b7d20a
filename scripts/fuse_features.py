"""The command `fuse_features` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.fuse_features import main

if __name__ == "__main__":
    sys.exit(main())
