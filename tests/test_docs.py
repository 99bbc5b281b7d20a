"""What the documentation names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
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
