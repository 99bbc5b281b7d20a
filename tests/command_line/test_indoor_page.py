"""docs/indoor.md: its commands, read from the page, are typed one after the other.

Not those that want what the page says comes from others: of them the options are parsed alone.
"""

from __future__ import annotations

import importlib
import shlex
import sys
from pathlib import Path, PurePath
from typing import NamedTuple

import pytest

from tests.pages import ROOT, Block, blocks_of, files_of, inline_code_of, run_typed
from uov_jax.command_line.recipe import read_recipe

PAGE = ROOT / "docs" / "indoor.md"
# The page's lists of files by what is said before them; every other block is of commands.
HAVE, WRITTEN, OTHERS = "What you have", "have written", "they have these names"
PROGRAMS = ("python", "cp")
# What is added to commands to make them small. Of three rooms two are for training.
SMALLER = {
    "simulate_rooms": ["--rooms=3", "--frames=4", "--density=3000"],
    "train": ["--config.total_steps=2"],
}
# The simulated rooms that stand in for those that the page speaks of.
ROOMS = {"kitchen": "scene0000_00", "bath": "scene0001_00", "office": "scene0002_00"}


class Command(NamedTuple):
    """A command as the page has it."""

    program: str
    arguments: list[str]

    @property
    def script(self) -> str:
        """Name of the script, "" for another program."""
        return Path(self.arguments[0]).stem if self.program == "python" else ""

    @property
    def outputs(self) -> list[str]:
        """Where it says that it writes to; none where the command decides."""
        if self.program == "cp":
            return self.arguments[-1:]
        options = zip(self.arguments, self.arguments[1:], strict=False)
        return [value for option, value in options if option in ("--output", "--workdir")]

    def reads(self, places: set[str]) -> bool:
        """Whether it names one of some files or folders, or what lies in one, but to write to."""
        inputs = (word.rpartition("=")[2] for word in self.arguments if word not in self.outputs)
        return any(within(path, places) for path in inputs)


class Sorted(NamedTuple):
    """A page's commands in their order, parted by whether they can be run without others' files."""

    own: list[Command]
    of_others: list[Command]


def within(path: str, places: set[str]) -> bool:
    return any(PurePath(path).is_relative_to(place) for place in places)


def list_of(page: Path, words: str) -> list[str]:
    """The files of the one list before which the page has these words."""
    (block,) = (block for block in blocks_of(page) if words in block.before)
    return files_of(block)


def commands_of(block: Block) -> list[Command]:
    """The commands of a block; ValueError for a line that is none."""
    if any(words in block.before for words in (HAVE, WRITTEN, OTHERS)):
        return []
    commands = [Command(program, rest) for program, *rest in map(shlex.split, block.lines)]
    for command, line in zip(commands, block.lines, strict=True):
        if command.program not in PROGRAMS:
            raise ValueError(f"neither a command that a test runs, nor in a list of files: {line}")
    return commands


def sort_commands(page: Path) -> Sorted:
    """Part a page's commands: others' are all that read others' files, or what comes of these.

    What a command makes of the simulated rooms is no longer others', whatever else makes it too.
    """
    found, others = Sorted([], []), set(list_of(page, OTHERS))
    for block in blocks_of(page):
        for command in commands_of(block):
            if command.reads(others):
                found.of_others.append(command)
                others |= {*command.outputs}
            else:
                found.own.append(command)
                others -= {*command.outputs}
    return found


def test_every_command_is_of_one_kind_and_its_options_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.chdir(ROOT)
    own, of_others = sort_commands(PAGE)
    for command in own + of_others:
        if not command.script:
            continue
        assert (ROOT / command.arguments[0]).is_file(), command
        module = importlib.import_module(f"uov_jax.command_line.{command.script}")
        options = module.parse(command.arguments[1:])
        if "fields" in options:
            read_recipe(options)
    # One that changes its kind, as by another name for a folder, shows here.
    assert (len(own), len(of_others)) == (17, 11)
    # Nor does a command hide in a sentence, where it would be neither.
    assert not [code for code in inline_code_of(PAGE) if code.startswith("python scripts/")]


def test_what_is_no_command_and_what_is_of_others_is_recognised(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    head = f"{OTHERS}:\n\n    their/data  scans\n\nText:\n\n"
    page.write_text(
        f"{head}    python scripts/a.py --in=their/data/x --output made\n"
        "    python scripts/b.py --in made/y \\\n        --output more\n"
        "    python scripts/c.py --in their/database --output more\n"
        "    cp more done\n"
    )
    own, of_others = sort_commands(page)
    assert [command.script for command in of_others] == ["a", "b"]
    assert [command.program for command in own] == ["python", "cp"]
    page.write_text(f"{head}    tool scripts/a.py\n")
    with pytest.raises(ValueError, match="neither a command that a test runs, nor .*: *tool scr"):
        sort_commands(page)


@pytest.mark.slow
def test_the_page_leads_from_nothing_to_a_trained_network(tmp_path: Path) -> None:
    for name in ("scripts", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    written = {of_simulated(name) for name in list_of(PAGE, WRITTEN)}
    before: set[str] = set()
    for command in sort_commands(PAGE).own:
        type_command(command, tmp_path)
        there = files_below(tmp_path)
        made, places = there - before, {*command.outputs} or written
        assert made, f"{command} wrote nothing"
        assert not [name for name in made if not within(name, places)], command
        before = there
    for name in [*written, *map(of_simulated, list_of(PAGE, HAVE))]:
        assert (tmp_path / name).exists(), name


def of_simulated(name: str) -> str:
    """The name of a file with a simulated room's in the place of the page's."""
    for room, scene in ROOMS.items():
        name = name.replace(room, scene)
    return name


def type_command(command: Command, folder: Path) -> None:
    """Run a command in a folder, made small."""
    program = sys.executable if command.program == "python" else command.program
    words = [program, *command.arguments, *SMALLER.get(command.script, [])]
    run_typed(words, folder)


def files_below(folder: Path) -> set[str]:
    """Names of all files in a folder, but for those behind links."""
    return {
        str(path.relative_to(folder))
        for place in folder.iterdir()
        if not place.is_symlink()
        for path in place.rglob("*")
        if path.is_file()
    }
