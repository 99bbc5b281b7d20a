"""Streaming of JSON lists: the same records as json.load, whatever the chunk size."""

from __future__ import annotations

import json

import pytest

from uov_jax.datasets import json_records as module
from uov_jax.datasets.json_records import json_records

RECORDS = [{"a": "x]},{", "b": [1, 2.5]}, {}, {"c": {"d": "é" * 50}}]


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 22])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("records", [[], RECORDS[:1], RECORDS])
def test_all_records_in_order(tmp_path, monkeypatch, records, indent, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    path = tmp_path / "t.json"
    path.write_text(json.dumps(records, indent=indent, ensure_ascii=False), "utf-8")
    assert list(json_records(path)) == records


@pytest.mark.parametrize(("length", "record"), [(2, 0), (20, 0), (33, 1), (40, 2)])
def test_a_truncated_file_is_refused(tmp_path, length, record):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(RECORDS)[:length])
    with pytest.raises(ValueError, match=rf"t.json: breaks off or .* at record {record}"):
        list(json_records(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [("{}", "not a JSON list, it begins with '{}'"), ("", "not a JSON list"), ("[3]", "record 0")],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "t.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        list(json_records(path))
