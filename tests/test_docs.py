"""What the documentation names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT, code_of
from uov_jax.config import flat_fields, load_config

# `tasks/tri_modal.py`, `csrc/core/plan.cpp`, `datasets/lidar_file.py: read_points`
FILE = re.compile(r"`([\w/.-]+/[\w.-]+\.(?:py|cpp|h|md|json))(?::\s*(\w+))?`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    for name, symbol in FILE.findall(page.read_text("utf-8")):
        places = [ROOT / name, ROOT / "uov_jax" / name]
        found = [place for place in places if place.is_file()]
        assert found, f"{page.name} names {name}"
        if symbol:
            assert re.search(rf"^(?:def|class) {symbol}\b", found[0].read_text("utf-8"), re.M), (
                symbol
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_the_tour_names_a_file_of_every_room() -> None:
    tour = (ROOT / "docs" / "tour.md").read_text("utf-8")
    rooms = {path.name for path in (ROOT / "uov_jax").iterdir() if (path / "__init__.py").is_file()}
    assert not {room for room in rooms if f"{room}/" not in tour}


def options_of(*places: Path) -> set[str]:
    """The options that files of Python name."""
    found = set()
    for path in places:
        found |= set(re.findall(r'"(--[a-z][a-z-]*)"', path.read_text("utf-8")))
    return found


def fields() -> set[str]:
    """The fields of all recipes and their sections, by their dotted names."""
    found = set()
    for recipe in (ROOT / "configs").glob("*.py"):
        if recipe.stem != "common":
            names = [name for name, _ in flat_fields(load_config(str(recipe)))]
            found |= {name.rpartition(".")[0] for name in names} | set(names)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_a_page_names_is_one_of_its_commands(page: Path) -> None:
    shared = [
        ROOT / "uov_jax" / "command_line" / f"{name}.py"
        for name in ("command", "dataset", "recipe")
    ]
    everywhere = options_of(
        *(ROOT / "uov_jax" / "command_line").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")
    )
    for line in code_of(page):
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*(?![\w.-])", line)) - {"--help"}
        command = re.search(r"\b(?:(\w+)\.py|uov-jax ([a-z][\w-]*))\b", line)
        name = (command[1] or command[2].replace("-", "_")) if command else ""
        if (ROOT / "scripts" / f"{name}.py").is_file():
            known = options_of(ROOT / "uov_jax" / "command_line" / f"{name}.py", *shared)
        elif re.match(r"--|\w+\.py|python -m benchmarks", line):
            known = everywhere
        else:
            continue  # Of another program.
        assert not options - known, f"{page.name} names {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_field_that_a_page_names_is_one_of_a_recipe(page: Path) -> None:
    known = fields()
    for line in code_of(page):
        for name in re.findall(r"\bconfig\.([a-z_]+(?:\.[a-z_]+)*)", line):
            assert name in known | {"py", "json"}, f"{page.name} names {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_target_that_a_page_names_is_in_the_makefile(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for line in code_of(page):
        for command in re.findall(r"(?:^|\s)make((?: [a-z-]+)+)", line):
            for target in command.split():
                assert re.search(rf"^{target}:", makefile, re.M), f"{page.name} names {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_variable_of_the_environment_that_a_page_names_is_read(page: Path) -> None:
    paths = [ROOT / "setup.py", *(ROOT / "uov_jax").rglob("*.py"), *(ROOT / "csrc").rglob("*.cpp")]
    code = "\n".join(path.read_text("utf-8") for path in paths)
    for line in code_of(page):
        for name in re.findall(r"\b(?:UOV|JAX|XDG|XLA|SLURM|JOB)_[A-Z_]+", line):
            assert name in code, f"{page.name} names {line}"
