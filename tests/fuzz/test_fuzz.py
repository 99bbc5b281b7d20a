"""What the fuzzer begins with is valid, and what comes near it keeps the rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.planted import PLANTED
from tests.fuzz.rule import MOST_MEMORY, MemoryRuleError, Reader, Target
from tests.fuzz.targets import TARGETS
from tests.test_makefile import ROOT
from uov_jax.errors import InputError

CASES = [
    (name, number, f"{name}: {reader.name}, {form}")
    for name, target in TARGETS.items()
    for number, (reader, form) in enumerate(target.choices)
]
# Numbers that files say of themselves, in the widths that they say them in.
NUMBERS = [
    value.to_bytes(width, "little")
    for width in (1, 2, 4, 8)
    for value in (0, 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1, 2 ** (4 * width))
]
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 9),
        st.one_of(st.sampled_from(NUMBERS), st.binary(max_size=4)),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize(
    ("name", "number"), [case[:2] for case in CASES], ids=[case[2] for case in CASES]
)
def test_valid_files_are_read_and_changed_ones_keep_the_rule(
    tmp_path: Path, name: str, number: int
) -> None:
    target = TARGETS[name]
    reader, form = target.choices[number]
    seed = reader.seed(form)
    assert reader.judge(form, seed, tmp_path)

    @given(EDITS)
    @settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=40,
        suppress_health_check=[HealthCheck.too_slow],
    )
    def keeps_the_rule(edits: list[tuple[float, int, bytes]]) -> None:
        content = seed
        for place, removed, put in edits:
            start = round(place * len(content))
            content = content[:start] + put + content[start + removed :]
        reader.judge(form, content, tmp_path)

    keeps_the_rule()


def reader_of(read: object) -> Target:
    made = Reader("made up", ("a",), lambda folder: (folder / "a").write_bytes(b"a"), read)  # type: ignore[arg-type]
    return Target((made,))


def test_what_breaks_the_rule_is_found(tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        raise InputError("no such file")

    def mistake(folder: Path) -> None:
        raise KeyError("a mistake")

    # Memory that is never touched counts too: on another machine it may not be there.
    def waste(folder: Path) -> None:
        assert np.empty(MOST_MEMORY + 1, np.uint8).size

    def waste_and_refuse(folder: Path) -> None:
        waste(folder)
        refuse(folder)

    assert reader_of(lambda folder: None).judge(b"\0a", tmp_path)
    assert not reader_of(refuse).judge(b"\0a", tmp_path)
    with pytest.raises(KeyError):
        reader_of(mistake).judge(b"\0a", tmp_path)
    for read in (waste, waste_and_refuse):
        with pytest.raises(MemoryRuleError, match="made up: 536,8.* expected at most 536,870,912"):
            reader_of(read).judge(b"\0a", tmp_path)
    with pytest.raises(KeyError, match="a mistake"):
        PLANTED.judge(b"\0FACE-OFF", tmp_path)


def test_the_makefile_names_every_target() -> None:
    (line,) = (
        line
        for line in (ROOT / "Makefile").read_text("utf-8").splitlines()
        if line.startswith("FUZZ_TARGETS")
    )
    assert line.partition(":=")[2].split() == list(TARGETS)
