"""README.md and docs: what they say to type is taken, and typed where it needs no data of others.

docs/indoor.md has a file of tests of its own, `test_indoor_page.py`.
"""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.pages import PAGES, ROOT, blocks_of, code_of, run_typed
from uov_jax.command_line import console
from uov_jax.command_line.recipe import read_recipe

README, FIRST_HOUR = ROOT / "README.md", ROOT / "docs" / "start.md"
OTHERS = [page for page in PAGES if page.name != "indoor.md"]
COMMAND = re.compile(r"(?<![\w/])(?:python scripts/(\w+)\.py|uov-jax ([a-z][\w-]*))(?=\s|$)(.*)")
# What nobody has who only has this program: where the recipes look for nuScenes, a shared disk, a
# GPU, and clouds of the reader's own.
FOREIGN = re.compile(r"\bdata/nuscenes\b|/shared/|scan\.ply|^uov_tmp_san\.pt$|^gpu_check$")
# What is added to commands to make them small.
SMALLER = {
    "simulate": ["--scenes=2", "--keyframes=2", "--image-scale=0.2", "--workers=1"],
    "train": ["--config.total_steps=2", "--devices=1"],
    "evaluate": ["--pictures=1"],
}
CONSOLE = "import sys; from uov_jax.command_line.console import main; sys.exit(main())"
SCREEN = 60  # lines
LARGEST_PICTURE = 150_000  # bytes


class Typed(NamedTuple):
    """A command of this program as a page has it."""

    name: str  # of its module
    arguments: tuple[str, ...]


def commands_in(line: str) -> list[Typed]:
    """The command in a line of code; none in most lines."""
    found = COMMAND.search(" ".join(line.split()))
    if found is None:
        return []
    name = (found[1] or found[2]).replace("-", "_")
    return [Typed(name, tuple(shlex.split(found[3], comments=True)))]


def typed_on(page: Path) -> list[Typed]:
    """The commands that stand in a page's blocks, in their order."""
    return [
        command
        for block in blocks_of(page)
        for line in block.lines
        for command in commands_in(line)
    ]


def here() -> list[str]:
    """The commands that there are."""
    return [*console.commands()]


def is_foreign(command: Typed) -> bool:
    """Whether a command wants what only others have, by its words or its recipe's."""
    words = [command.name, *command.arguments]
    if "--config" in words:
        module = importlib.import_module(f"uov_jax.command_line.{command.name}")
        data = read_recipe(module.parse(command.arguments)).data
        words += [data.root, data.get("dumps", ""), data.get("labels", "")]
    return any(FOREIGN.search(word) for word in words)


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.name)
def test_every_command_of_a_page_is_there_and_its_options_are_taken(page: Path) -> None:
    for command in [command for line in code_of(page) for command in commands_in(line)]:
        assert command.name in here(), f"{page.name} names {command}"
    for command in typed_on(page):
        module = importlib.import_module(f"uov_jax.command_line.{command.name}")
        options = module.parse(command.arguments)
        if "fields" in options and "config" in options:
            assert read_recipe(options).data


@pytest.mark.usefixtures("checkout")
def test_every_command_that_needs_nothing_of_others_is_typed_in_the_first_hour() -> None:
    first = typed_on(FIRST_HOUR)
    assert [command.name for command in first] == [
        "simulate", "train", "evaluate", "predict", "predict", "query", "draw", "report_dump",
        "make_superpoints", "train", "evaluate", "train", "train", "export_checkpoint",
    ]  # fmt: skip
    for page in OTHERS:
        for command in typed_on(page):
            assert is_foreign(command) != (command in first), f"{page.name}: {command}"


def test_what_is_typed_and_what_is_of_others_is_recognised(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Text `uov-jax COMMAND --help`:\n\n"
        "    uov-jax draw-rooms --rooms a \\\n        --output b\n"
        "    srun python scripts/train.py --config configs/tmp_san.py:slidr # a comment\n"
        "    uov_jax/tasks/  one file a stage\n    make train\n"
    )
    drawing, training = typed_on(page)
    assert drawing == Typed("draw_rooms", ("--rooms", "a", "--output", "b"))
    assert training == Typed("train", ("--config", "configs/tmp_san.py:slidr"))
    assert is_foreign(training)
    assert not is_foreign(drawing)
    assert not is_foreign(Typed("train", ("--config", "tmp_san:sim")))
    assert is_foreign(Typed("draw", ("--data=data/nuscenes",)))
    assert commands_in("`uov-jax COMMAND --help`") == []


@pytest.mark.slow
def test_the_first_hour_leads_from_an_empty_folder_to_trained_networks(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    for name, arguments in typed_on(FIRST_HOUR):
        words = [name.replace("_", "-"), *arguments, *SMALLER.get(name, [])]
        run_typed([sys.executable, "-c", CONSOLE, *words], folder)
    made = {path.name for path in folder.iterdir()}
    assert made == {"data", "runs", "labels", "cones", "pictures", "tmp_san.npz"}
    runs = {path.name for path in (folder / "runs").iterdir() if path.suffix != ".lock"}
    assert {f"{recipe}-sim" for recipe in (
        "tmp_san", "annotation_free_san", "linear_probing_nuscenes", "finetune_nuscenes",
    )} < runs  # fmt: skip
    with np.load(folder / "tmp_san.npz") as exported:
        assert len(exported.files) > 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_target_of_a_page_can_be_made(page: Path) -> None:
    targets = {
        target
        for line in code_of(page)
        for found in re.findall(r"(?:^|\s)make((?: [a-z-]+)+)", line)
        for target in found.split()
    }
    for target in sorted(targets):
        done = subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{page.name}: make {target}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_a_page_runs_is_there(page: Path) -> None:
    for line in code_of(page):
        for module, words in re.findall(r"python -m (\w+(?:\.\w+)*)([^`]*)", line):
            assert importlib.util.find_spec(module), f"{page.name}: {line}"
            for path in re.findall(r"(?<!\S)tests/\S+", words):
                assert (ROOT / path).exists(), f"{page.name}: {line}"


def test_every_program_of_one_line_runs() -> None:
    lines = [code for page in PAGES for code in code_of(page) if code.startswith("python -c ")]
    assert lines
    for line in lines:
        _, *words = shlex.split(line)
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout


def test_labels_are_smoothed_as_a_page_says() -> None:
    (block,) = (
        block.lines
        for block in blocks_of(ROOT / "docs" / "own_data.md")
        if any("smooth_labels" in line for line in block.lines)
    )
    *imports, call = [line.strip() for line in block]
    random = np.random.default_rng(0)
    points = random.uniform(-20, 20, (5000, 3)).astype(np.float32)
    points[:, 2] *= 0.01
    names = {"points": points, "labels": random.integers(1, 17, 5000).astype(np.uint8)}
    exec("\n".join([*imports, f"smoothed = {call}"]), names)
    assert names["smoothed"].shape == (5000,)


def test_readme_fits_a_screen_before_its_first_list_of_links() -> None:
    lines = README.read_text("utf-8").splitlines()
    first = next(number for number, line in enumerate(lines, 1) if line.startswith("- ["))
    assert first <= SCREEN
    above = "\n".join(lines[:first])
    # What is it, labels for my file, training, what was never tried.
    for words in ("3D semantic segmentation without 3D labels", "uov_jax.load(", "uov-jax predict",
                  "uov-jax train", "**never**"):  # fmt: skip
        assert words in above
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    linked = set(re.findall(r"\]\(docs/([\w.]+\.md)\)", "\n".join(lines)))
    assert linked == pages


def test_readmes_picture_is_small() -> None:
    (name,) = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README.read_text("utf-8"))
    path = ROOT / name
    assert path.stat().st_size < LARGEST_PICTURE
    with Image.open(path) as picture:
        picture.load()
        assert picture.width >= 800
