"""The command `extract_frames` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.extract_frames import main

if __name__ == "__main__":
    sys.exit(main())
