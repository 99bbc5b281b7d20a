"""The command `report_dump` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.report_dump import main

if __name__ == "__main__":
    sys.exit(main())
