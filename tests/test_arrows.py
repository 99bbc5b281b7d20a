"""The layout of the package: imports run downward only, and in no circle.

The rooms stand in rows, a row below what it may be imported by. Rooms of one row may import each
other, as long as there is no circle. What is imported for types alone, or inside a function, counts
as well.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "uov_jax"
ROWS = (
    ("scripts", "configs", "benchmarks"),
    ("command_line",),
    ("tasks",),
    ("training", "pictures", "input"),
    ("superpoints", "fusion", "simulate", "teachers"),
    ("checkpoints", "dumps", "evaluation", "clouds"),
    ("datasets", "models", "losses", "afi", "vocabulary"),
    (
        "bar",
        "config",
        "compilation",
        "contents",
        "daemon_threads",
        "files",
        "job_array",
        "pickled",
        "quirks",
        "readable",
        "signals",
        "user_cache",
        "workers",
    ),
    ("sparse", "errors", "host", "processors"),
)
ROW = {room: number for number, row in enumerate(ROWS) for room in row}
# Compiled: no module of the layout.
ENGINES = ("_engine", "_engine_cuda")
# Who may import PyTorch's half of the package; the format of dumps needs no torch.
TEACHERS_USERS = {"scripts", "benchmarks", "command_line", "teachers"}


def room_of(module: str) -> str | None:
    """The room of a module, such as "datasets" of uov_jax.datasets.nuscenes; None elsewhere."""
    parts = module.split(".")
    if parts[0] in ROWS[0]:
        return parts[0]
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 and parts[1] not in ENGINES else None


def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    folders = (PACKAGE, *ROWS[0])
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


def imports(module: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The modules that a module imports anywhere in it, those of this checkout alone."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in known else base)
    return {name for name in found if name in known or room_of(name)}


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    known = modules()
    return {module: imports(module, path, known) for module, path in known.items()}


def test_every_room_stands_in_a_row(graph: dict[str, set[str]]) -> None:
    assert {room for module in graph if (room := room_of(module))} == set(ROW)


def test_no_arrow_runs_upward(graph: dict[str, set[str]]) -> None:
    upward = [
        f"{module} -> {other}"
        for module, others in graph.items()
        for other in sorted(others)
        if (mine := room_of(module)) and (theirs := room_of(other)) and ROW[theirs] < ROW[mine]
    ]
    assert not upward


def test_rooms_import_each_other_in_no_circle(graph: dict[str, set[str]]) -> None:
    rooms: dict[str, set[str]] = {}
    for module, others in graph.items():
        mine = room_of(module)
        if mine is not None:
            rooms.setdefault(mine, set()).update(
                theirs for other in others if (theirs := room_of(other)) and theirs != mine
            )
    assert circle(rooms) == []


def test_modules_import_each_other_in_no_circle(graph: dict[str, set[str]]) -> None:
    assert circle(graph) == []


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_the_engine_and_the_teachers_stand_alone(graph: dict[str, set[str]]) -> None:
    for module, others in graph.items():
        mine, theirs = room_of(module), {room_of(other) for other in others} - {None}
        if mine == "sparse":
            assert theirs <= {"sparse", "host", "processors"}, module
        if mine == "processors":
            assert not theirs, module
        if "teachers" in theirs:
            assert mine in TEACHERS_USERS, module


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The nodes along one circle, the first of them at both ends; empty if there is none."""
    done: set[str] = set()

    def search(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for other in sorted(graph.get(node, ())):
            if found := search(other, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := search(node, []))), [])
