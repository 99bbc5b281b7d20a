"""Tables: every number in its place, in all three styles."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.evaluation.tables import format_table

NAMES = ("ignore", "car", "bicycle", "bus")


def matrices() -> dict[str, ConfusionMatrix]:
    network, teacher = ConfusionMatrix(4, NAMES), ConfusionMatrix(4, NAMES)
    network.add(np.array([1, 1, 1, 1, 2]), np.array([1, 1, 1, 2, 2]))
    teacher.add(np.array([1] * 1500), np.array([1] * 1500))
    return {"network": network, "teacher, seen": teacher}


def test_text_lines_up_and_shows_percent() -> None:
    lines = format_table(matrices()).splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = {line[:22].strip(): line[22:].split() for line in lines}
    assert lines[0].split("  ")[0] == "IoU in %"
    assert cells["car"] == ["75.00", "100.00"]
    assert cells["bicycle"] == ["50.00", "-"]
    assert cells["bus"] == ["-", "-"]
    assert cells["mean IoU"] == ["62.50", "100.00"]
    assert cells["mean IoU, absent = 1"] == ["75.00", "100.00"]
    assert cells["frequency-weighted IoU"] == ["66.67", "100.00"]
    assert cells["accuracy"] == ["80.00", "100.00"]
    assert cells["points"] == ["5", "1,500"]


def test_markdown_is_a_table_with_the_mean_in_bold() -> None:
    rows = [
        line.strip("| ").split(" | ") for line in format_table(matrices(), "markdown").split("\n")
    ]
    assert rows[0] == ["IoU in %", "network", "teacher, seen"]
    assert rows[1] == ["---", "---:", "---:"]
    assert ["bicycle", "50.00", "-"] in rows
    assert ["**mean IoU**", "**62.50**", "**100.00**"] in rows
    assert {len(row) for row in rows} == {3}


def test_csv_reads_back_in_full_precision() -> None:
    columns = matrices()
    rows = list(csv.DictReader(io.StringIO(format_table(columns, "csv"))))
    found = {row["class"]: (row["network"], row["teacher, seen"]) for row in rows}
    assert float(found["frequency-weighted IoU"][0]) == columns["network"].frequency_weighted_iou()
    assert found["bus"] == ("", "")
    assert found["points"] == ("5", "1500")


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least one confusion matrix"):
        format_table({})
    with pytest.raises(ValueError, match="column 'b' is over"):
        format_table({"a": ConfusionMatrix(4, NAMES), "b": ConfusionMatrix(3)})
    with pytest.raises(ValueError, match="unknown table style 'html'"):
        format_table(matrices(), "html")
