"""The report of a GPU check: one JSON and one Markdown file, written again after every section."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from uov_jax.files import write_text

PASSED, FAILED, SKIPPED, CUT_OFF = "passed", "failed", "skipped", "cut off"
Figure = float | int | str


@dataclass(frozen=True)
class Row:
    """One thing that was checked or measured.

    Attributes:
        what: it.
        figures: values by their name, with the unit in it.
        passed: the verdict; None for what is only measured.

    """

    what: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    passed: bool | None = None

    @classmethod
    def of(cls, line: str) -> Row:
        """The row of a line that `line` made."""
        return cls(**json.loads(line))

    def line(self) -> str:
        """The row as one line of JSON."""
        return json.dumps(asdict(self))


@dataclass
class Section:
    """What a section of the check came to.

    Attributes:
        name: of the section.
        title: what it is about.
        state: one of the four above; "cut off" has the rows until then.
        seconds: that it took.
        rows: its results.
        said: why it was skipped, or the end of what it said before it failed.
        excused: whether it may be left out: what it needs is not installed, or not of this check.

    """

    name: str
    title: str
    state: str = SKIPPED
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    said: str = ""
    excused: bool = False

    def judge(self, ended_well: bool) -> None:
        """Set the state from the rows, and from whether the section's program ended well."""
        wrong = any(row.passed is False for row in self.rows)
        self.state = PASSED if ended_well and not wrong else FAILED

    @property
    def in_order(self) -> bool:
        """Whether it was checked and is right, or need not have been."""
        return self.state == PASSED or (self.state == SKIPPED and self.excused)


def write(output: Path, machine: Mapping[str, Any], sections: Sequence[Section]) -> None:
    """Write `gpu_check.json` and `gpu_check.md` into a folder."""
    output.mkdir(parents=True, exist_ok=True)
    content = {"machine": dict(machine), "sections": [asdict(section) for section in sections]}
    write_text(output / "gpu_check.json", json.dumps(content, indent=2) + "\n")
    write_text(output / "gpu_check.md", markdown(machine, sections))


def markdown(machine: Mapping[str, Any], sections: Sequence[Section]) -> str:
    """The same for reading: a table of the sections, and one of each section's rows."""
    lines = ["# GPU check", "", *(f"- {key}: {value}" for key, value in machine.items()), ""]
    lines += ["| section | state | seconds |", "|---|---|---|"]
    lines += [f"| {each.title} | {each.state} | {each.seconds:.0f} |" for each in sections]
    for section in sections:
        lines += ["", f"## {section.title}: {section.state}", ""]
        if section.rows:
            lines += table(section.rows)
        if section.said:
            lines += ["", *(f"    {line}" for line in section.said.splitlines())]
    return "\n".join(lines) + "\n"


def table(rows: Sequence[Row]) -> list[str]:
    """Rows as lines of a Markdown table, with a column for every figure that one has."""
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    verdicts = {True: "yes", False: "**no**", None: ""}
    judged = any(row.passed is not None for row in rows)
    lines = ["| " + " | ".join(["", *names, *(["passed"] if judged else [])]) + " |"]
    lines.append("|---" * (1 + len(names) + judged) + "|")
    for row in rows:
        cells = [row.what, *(shown(row.figures.get(name, "")) for name in names)]
        cells += [verdicts[row.passed]] if judged else []
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def shown(figure: Figure) -> str:
    """A figure in the digits that matter."""
    if isinstance(figure, float):
        return f"{figure:.4g}"
    return f"{figure:,}" if isinstance(figure, int) else figure
