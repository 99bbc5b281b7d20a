"""The command `draw_rooms` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.draw_rooms import main

if __name__ == "__main__":
    sys.exit(main())
