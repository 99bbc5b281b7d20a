"""A reader with mistakes that the fuzzer must find: `make fuzz` begins with it."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.rule import Reader, Target
from uov_jax.errors import InputError


def read(folder: Path) -> None:
    """Only who sees which comparisons an input passes finds the way in."""
    content = (folder / "a").read_bytes()
    if content[:4] != b"FACE" or len(content) < 8:
        raise InputError("no such file")
    if content[5:8] == b"OFF":
        raise KeyError("a mistake")


PLANTED = Target((Reader("planted", ("a",), lambda f: (f / "a").write_bytes(b"FA"), read),))
