"""The scores of an evaluation as files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.evaluation.scores import SubsetScores
from uov_jax.evaluation.scoring import SWEEPS, Scoring
from uov_jax.evaluation.tables import Style, format_table
from uov_jax.files import write_text

TABLE_STYLES: dict[str, Style] = {"txt": "text", "md": "markdown", "csv": "csv"}


def write_scores(
    scores: Mapping[str, SubsetScores], directory: Path, scoring: Scoring = SWEEPS
) -> list[Path]:
    """Write every column's scores; `scoring` says which means there are.

    Returns:
        `scores.txt`, `.md` and `.csv` with all columns side by side on all points; for each column
        `subsets/COLUMN.*`, by subset of points, and `confusion/COLUMN.csv`.

    """
    together = {name: subsets.everywhere for name, subsets in scores.items()}
    written = write_table(together, directory / "scores", scoring)
    for name, subsets in scores.items():
        stem = directory / "subsets" / file_name(name)
        written += write_table(subsets.columns, stem, scoring)
        table = directory / "confusion" / f"{file_name(name)}.csv"
        write_text(table, subsets.everywhere.to_csv())
        written.append(table)
    return written


def write_table(
    columns: Mapping[str, ConfusionMatrix], stem: Path, scoring: Scoring = SWEEPS
) -> list[Path]:
    """Write `STEM.txt`, `.md` and `.csv` with the matrices side by side."""
    written = []
    for ending, style in TABLE_STYLES.items():
        path = stem.with_name(f"{stem.name}.{ending}")
        write_text(path, format_table(columns, style, scoring))
        written.append(path)
    return written


def file_name(column: str) -> str:
    """The name of a column as a file's: `tmp_san + AFI` is `tmp_san_AFI`."""
    return re.sub(r"[^\w.-]+", "_", column).strip("_")
