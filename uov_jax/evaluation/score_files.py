"""Tables and confusion matrices of several networks, written into a directory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.evaluation.confusion_picture import confusion_picture
from uov_jax.evaluation.subsets import SubsetScores
from uov_jax.evaluation.tables import Style, format_table

TABLE_STYLES: dict[str, Style] = {"txt": "text", "md": "markdown", "csv": "csv"}


def write_scores(scores: Mapping[str, SubsetScores], directory: Path) -> list[Path]:
    """Write every column's scores.

    Returns:
        `scores.txt`, `.md` and `.csv` with all columns side by side on all points; for each column
        `subsets/COLUMN.*`, by distance and by camera, and `confusion/COLUMN.csv` and `.png`.

    """
    together = {name: subsets.everywhere for name, subsets in scores.items()}
    written = _write_table(together, directory / "scores")
    for name, subsets in scores.items():
        written += _write_table(subsets.columns, directory / "subsets" / file_name(name))
        folder = directory / "confusion"
        folder.mkdir(exist_ok=True)
        table, picture = (folder / f"{file_name(name)}.{ending}" for ending in ("csv", "png"))
        table.write_text(subsets.everywhere.to_csv())
        confusion_picture(subsets.everywhere, picture, title=name)
        written += [table, picture]
    return written


def file_name(column: str) -> str:
    """The name of a column as a file's: `tmp_san + AFI` is `tmp_san_AFI`."""
    return re.sub(r"[^\w.-]+", "_", column).strip("_")


def _write_table(columns: Mapping[str, ConfusionMatrix], stem: Path) -> list[Path]:
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for ending, style in TABLE_STYLES.items():
        path = stem.with_name(f"{stem.name}.{ending}")
        path.write_text(format_table(columns, style) + "\n")
        written.append(path)
    return written
