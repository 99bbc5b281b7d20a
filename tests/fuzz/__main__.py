"""Fuzzes one target for a while, or reads single inputs again.

    python -m tests.fuzz dumps --seconds 600
    python -m tests.fuzz dumps build/fuzz/dumps/crash-...

What is found, and the inputs that reach new code, lie in build/fuzz. Needs requirements/fuzz.txt.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

# Code is looked at that is imported here.
with atheris.instrument_imports(include=["uov_jax", "tests.fuzz", "zipfile", "json", "numpy.lib"]):
    from tests.fuzz.planted import PLANTED
    from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
LONGEST = 2**16  # bytes of an input
SECONDS_OF_ONE = 10  # that an input may take; most take a millisecond
MEGABYTES = 3072  # of the process, which has JAX in it


def main() -> None:
    targets = TARGETS | {"planted": PLANTED}
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=targets)
    parser.add_argument("inputs", nargs="*", type=Path)
    parser.add_argument("--seconds", type=int, default=600)
    options = parser.parse_args()
    target, place = targets[options.target], ROOT / "build" / "fuzz" / options.target
    corpus = place / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = [f"-artifact_prefix={place}/", f"-timeout={SECONDS_OF_ONE}", "-print_final_stats=1"]
    words += [f"-rss_limit_mb={MEGABYTES}", f"-max_len={LONGEST}"]
    words += [f"-max_total_time={options.seconds}", "-use_value_profile=1", "-verbosity=0"]
    with tempfile.TemporaryDirectory() as folder:
        atheris.Setup(
            [sys.argv[0], *words, *map(str, options.inputs or [corpus])],
            lambda content: target.judge(content, Path(folder)) and None,
        )
        atheris.Fuzz()


main()
