"""Tables of per-class IoU with confusion matrices side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.evaluation.scoring import SWEEPS, Scoring

Style = Literal["text", "markdown", "csv"]


def format_table(
    columns: Mapping[str, ConfusionMatrix], style: Style = "text", scoring: Scoring = SWEEPS
) -> str:
    """Per-class IoU and its means in percent, one column per matrix, points counted below.

    Args:
        columns: matrices over the same classes by the names that head their columns.
        style: aligned plain text, markdown, or CSV (full precision; empty where undefined).
        scoring: says which means there are.

    Returns:
        The table without a newline at its end.

    Raises:
        ValueError: no column, classes that differ between columns, or an unknown style.

    """
    if not columns:
        raise ValueError("a table needs at least one confusion matrix")
    first = next(iter(columns.values()))
    for name, matrix in columns.items():
        if matrix.names != first.names:
            raise ValueError(
                f"column {name!r} is over {matrix.names}, the first column over {first.names}"
            )
    ious = np.stack([matrix.iou() for matrix in columns.values()], axis=1)
    classes = list(zip(first.names[1:], ious.tolist(), strict=True))
    means = [(name, [read(m) for m in columns.values()]) for name, read in scoring.summary]
    points = [matrix.points for matrix in columns.values()]
    if style == "csv":
        return _csv(columns, classes + means, points)
    if style == "markdown":
        return _markdown(columns, classes, means, points)
    if style == "text":
        return _text(columns, classes, means, points)
    raise ValueError(f"unknown table style {style!r}, expected text, markdown or csv")


_Rows = list[tuple[str, list[float]]]


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.2f}"


def _cells(rows: _Rows) -> list[list[str]]:
    return [[name, *map(_percent, values)] for name, values in rows]


def text_table(blocks: Sequence[Sequence[Sequence[str]]]) -> str:
    """Rows of cells in aligned columns, the first on the left; rules between the blocks."""
    rows = [row for block in blocks for row in block]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        return "  ".join((row[0].ljust(widths[0]), *numbers))

    rule = "\n" + "-" * (sum(widths) + 2 * len(widths) - 2) + "\n"
    return rule.join("\n".join(map(line, block)) for block in blocks)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same in markdown, without rules."""
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        for row in [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    )


def _text(columns: Mapping[str, object], classes: _Rows, means: _Rows, points: list[int]) -> str:
    head = ["IoU in %", *columns]
    foot = ["points", *(f"{number:,}" for number in points)]
    return text_table([[head], _cells(classes), _cells(means), [foot]])


def _markdown(
    columns: Mapping[str, object], classes: _Rows, means: _Rows, points: list[int]
) -> str:
    rows = _cells(classes)
    rows += [[f"**{cell}**" for cell in row] for row in _cells(means[:1])]
    rows += _cells(means[1:])
    rows.append(["points", *(f"{number:,}" for number in points)])
    return markdown_table(["IoU in %", *columns], rows)


def _csv(columns: Mapping[str, object], rows: _Rows, points: list[int]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", *columns])
    for name, values in rows:
        writer.writerow([name, *("" if np.isnan(value) else repr(value) for value in values)])
    writer.writerow(["points", *points])
    return text.getvalue().rstrip("\n")
