"""Words in pictures: one font everywhere, and what it lacks in Latin letters.

The font comes with matplotlib, so that a picture is the same on every machine. It has the Latin,
Greek, Cyrillic, Arabic and Hebrew letters; a name in others would be a row of empty boxes.
"""

from __future__ import annotations

import functools
from pathlib import Path

import matplotlib
from anyascii import anyascii
from matplotlib import ft2font
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import ImageFont

FONT = "DejaVu Sans"


def drawable(text: str) -> str:
    """The text with every character that the font lacks transliterated: "XingRen" for two Han."""
    return "".join(c if ord(c) in _characters() or c.isspace() else anyascii(c) for c in text)


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font for Pillow at a size in pixels; give it `drawable` text."""
    return ImageFont.truetype(_file(), size)


def letter(figure: Figure) -> None:
    """Make all text of a figure drawable, and plain: a dollar sign in a name is no formula.

    All but the names of ticks, which matplotlib sets anew when it draws: give it drawable ones.
    """
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set(text=drawable(text.get_text()), parse_math=False, fontfamily=FONT)


def _file() -> Path:
    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


@functools.cache
def _characters() -> frozenset[int]:
    return frozenset(ft2font.FT2Font(str(_file())).get_charmap())
