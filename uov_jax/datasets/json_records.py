"""Reading a JSON list of records one by one, in memory that does not grow with the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uov_jax.errors import InputError

CHUNK = 1 << 22  # characters read at a time: far more than a record, far less than a table
BETWEEN_RECORDS = re.compile(r"[\s,]*")


def json_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a file that holds one JSON list of objects.

    The tables `sample_data` and `ego_pose` of nuScenes hold 2.6 million records in more than a
    gigabyte each, of which a reader needs one in ten.

    Raises:
        InputError: the file is not such a list, or breaks off; the message names the record.

    """
    decoder = json.JSONDecoder()
    count = 0
    with path.open(encoding="utf-8") as file:
        text = file.read(CHUNK).lstrip()
        if not text.startswith("["):
            raise InputError(f"{path}: not a JSON list, it begins with {text[:20]!r}")
        position = 1
        while True:
            position = BETWEEN_RECORDS.match(text, position).end()  # type: ignore[union-attr]
            if text.startswith("]", position):
                return
            try:
                record, position = decoder.raw_decode(text, position)
            except json.JSONDecodeError as error:  # cut by the end of the chunk, or malformed
                more = file.read(CHUNK)
                if not more:
                    raise InputError(
                        f"{path}: breaks off or is malformed at record {count}: {error.msg}"
                    ) from error
                text, position = text[position:] + more, 0
                continue
            if not isinstance(record, dict):
                raise InputError(f"{path}: record {count} is not an object but {record!r}")
            yield record
            count += 1
