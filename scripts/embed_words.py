"""The command `embed_words` of uov_jax; see `--help`."""

import sys

from uov_jax.command_line.embed_words import main

if __name__ == "__main__":
    sys.exit(main())
