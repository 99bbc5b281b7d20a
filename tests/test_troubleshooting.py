"""The page of troubles has a line for every message, and no line for what nobody says."""

from __future__ import annotations

import ast
import re
import textwrap

import pytest

from tests.messages import LEAST_WORDS, ROOT, literals, messages, num_words, parsed, squeezed

PAGE = ROOT / "docs" / "troubleshooting.md"
# - `part of a message` / `of another`: what is behind it → what to do.
ROW = re.compile(r"- (`[^`]+`(?: / `[^`]+`)*): \S.* → \S.*\S")
MOST_MESSAGES = 12  # that a line may be of: one for more would say nothing
PROGRAM = parsed()
MESSAGES = messages(PROGRAM)
SAID = literals(PROGRAM)


def rows() -> list[str]:
    """The lines of the page that are about messages: lists there have no other purpose."""
    _, _, sections = PAGE.read_text("utf-8").partition("\n## ")
    return [line for line in sections.splitlines() if line.startswith("-")]


def fragments() -> list[str]:
    """The parts of messages that the lines begin with."""
    beginnings = [found[1] for row in rows() if (found := ROW.fullmatch(row))]
    return [squeezed(part) for each in beginnings for part in re.findall("`([^`]+)`", each)]


def uncovered(found: list[str], parts: list[str]) -> list[str]:
    """The messages that no part is in."""
    return [text for text in found if not any(part in text for part in parts)]


def made_up(source: str) -> list[str]:
    """The messages of a module."""
    module = ast.parse(textwrap.dedent(source))
    return [message.text for message in messages({"uov_jax/made_up.py": module})]


def test_every_message_has_a_line() -> None:
    lacking = set(uncovered([message.text for message in MESSAGES], fragments()))
    told = [f"{m.place}: {m.text}" for m in MESSAGES if m.text in lacking]
    assert not told, f"{PAGE.name} needs lines for:\n" + "\n".join(told)


def test_no_line_is_of_what_nobody_says() -> None:
    unsaid = [part for part in fragments() if not any(part in text for text in SAID)]
    assert not unsaid


def test_lines_are_of_few_messages_each() -> None:
    parts = fragments()
    assert len(parts) == len(set(parts))
    for part in parts:
        assert num_words(part) >= LEAST_WORDS, part
        assert sum(part in text for text in SAID) <= MOST_MESSAGES, part


def test_every_line_says_what_is_behind_and_what_to_do() -> None:
    assert len(rows()) > 100
    assert [row for row in rows() if not ROW.fullmatch(row)] == []


def test_a_message_without_a_line_is_found() -> None:
    (text,) = made_up("""
        def land(path):
            raise InputError(f"{path}: the moon is " f"not {path!r}, but round")
    """)
    assert text == "...: the moon is not ..., but round"
    assert uncovered([text], fragments()) == [text]
    assert uncovered([text], ["moon is not ..., but"]) == []


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("class MoonError(InputError): pass\nMoonError('no moon here')", ["no moon here"]),
        ("class MoonError(ArithmeticError): pass\nMoonError('no moon here')", ["no moon here"]),
        ("ValueError('a bug of the caller')", []),
        ("self.error(f'{a} has no moon')", ["... has no moon"]),
        ("warnings.warn('no moon ' + name, stacklevel=2)", ["no moon ..."]),
        ("print('no moon here', file=sys.stderr)\nprint('not a word')", ["no moon here"]),
        ("raise InputError(f'{path}: {error}')", []),
        # What only passes on is followed to its own function's callers, ...
        (
            """
            def _error(self, table, message):
                return InputError(f"{table}.json: {message}")
            self._error("sample", f"no moon of {name}")
            """,
            ["no moon of ..."],
        ),
        # ... to what a name was given, and to what a function returns.
        (
            """
            def read(path):
                if wrong := size(path):
                    raise InputError(f"{path}: {wrong}{hint(path)}")
            def size(path) -> str:
                return f"the moon is {path} large"
            def hint(path) -> str:
                return "" if path else "is it the sun?"
            """,
            ["the moon is ... large"],
        ),
    ],
)
def test_messages_are_read_from_the_code(source: str, texts: list[str]) -> None:
    assert made_up(source) == texts


def test_documentation_is_nothing_that_is_said() -> None:
    module = ast.parse('"""No moon here."""\nx = 1\n"""Nor here."""\nsay(f"a {x} moon")')
    said = literals({"made_up.py": module})
    assert {"a ... moon"} <= said
    assert not any("here" in text and "moon" in text.lower() for text in said)
