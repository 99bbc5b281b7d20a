"""The command `simulate_rooms` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.simulate_rooms import main

if __name__ == "__main__":
    sys.exit(main())
