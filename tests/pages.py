"""The documentation's pages as tests read them: code, commands, and lists of files."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


class Block(NamedTuple):
    """Indented lines, continued ones whole, and the paragraph before them."""

    before: str
    lines: list[str]


def code_of(page: Path) -> list[str]:
    """A page's code: what stands between backticks, and indented lines, continued ones whole."""
    text = page.read_text("utf-8")
    blocks = _whole("\n".join(re.findall(r"^ {4}.*", text, re.M)))
    return inline_code_of(page) + blocks.splitlines()


def inline_code_of(page: Path) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", re.sub(r"^ {4}.*", "", page.read_text("utf-8"), flags=re.M))


def blocks_of(page: Path) -> list[Block]:
    """A page's indented blocks in their order."""
    paragraphs = page.read_text("utf-8").split("\n\n")
    return [
        Block(before, _whole(block).splitlines())
        for before, block in itertools.pairwise(paragraphs)
        if block.startswith("    ")
    ]


def files_of(block: Block) -> list[str]:
    """The files that a block lists: a line begins with one, unless it goes on with what it is."""
    return [line.split()[0] for line in block.lines if re.match(r" {4}\S", line)]


def run_typed(words: Sequence[str], folder: Path) -> None:
    """Run a command in a folder, where it must end well and warn of nothing odd."""
    environment = os.environ | {"XDG_CACHE_HOME": str(folder.with_name("cache"))}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800
    )
    said = f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
    assert done.returncode == 0, said
    assert "WARNING:absl" not in said  # of nothing that a newcomer could mend


def whole_lines(text: str) -> list[str]:
    """A text's lines, continued ones whole."""
    return _whole(text).splitlines()


def _whole(lines: str) -> str:
    return re.sub(r"\\\n", " ", lines)
