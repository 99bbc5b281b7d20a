"""Names in pictures: of any script, without boxes, formulas or warnings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.pictures import canvas
from uov_jax.pictures.bird_eye import bird_eye
from uov_jax.pictures.confusion import confusion_picture
from uov_jax.pictures.lettering import drawable, font, letter

# Road, pedestrian, car, in six scripts.
NAMES = ("ignored", "道路", "Fußgänger", "автомобиль", "보행자", "सड़क", "a$b, $c_d\\frac")


def test_what_the_font_has_stays_and_the_rest_becomes_latin() -> None:
    assert drawable("Fußgänger, автомобиль, δρόμος\n2 m²") == "Fußgänger, автомобиль, δρόμος\n2 m²"
    assert drawable("行人") == "XingRen"
    assert drawable("보행자").isascii()
    assert drawable("") == ""


def test_no_name_is_drawn_as_boxes() -> None:
    """The same box for every character is what a font draws that has none of them."""
    for name in NAMES:
        glyphs = {bytes(font(20).getmask(c)) for c in drawable(name) if not c.isspace()}
        assert len(glyphs) > 1, name
    boxes = {bytes(font(20).getmask(c)) for c in "道路行人"}
    assert len(boxes) == 1


def test_a_legend_shows_the_names(tmp_path: Path) -> None:
    colors = np.full((len(NAMES), 3), 200, np.uint8)
    shown = canvas.legend(NAMES, colors, range(1, len(NAMES)), 2000)
    latin = canvas.legend([drawable(name) for name in NAMES], colors, range(1, len(NAMES)), 2000)
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(latin))
    assert np.asarray(canvas.heading("行人", 300)).tolist() == (
        np.asarray(canvas.heading("XingRen", 300)).tolist()
    )
    image = Image.new("RGB", (200, 60))
    canvas.caption(ImageDraw.Draw(image), (10, 10), "行人")
    assert np.asarray(image).max() == 255


def test_figures_have_no_formulas_and_no_missing_glyphs(tmp_path: Path) -> None:
    """Matplotlib warns of a missing glyph, and raises for a formula that is none."""
    figure = Figure()
    axis = figure.add_subplot()
    axis.set_title("行人 $\\frac")
    letter(figure)
    assert axis.get_title() == "XingRen $\\frac"
    matrix = ConfusionMatrix(len(NAMES), NAMES)
    truth = np.arange(1, len(NAMES)).repeat(20)
    matrix.add(truth, np.roll(truth, 3))
    confusion_picture(matrix, tmp_path / "confusion.png", title="道路 $")
    points = np.random.default_rng(0).normal(0, 10, (len(truth), 4)).astype(np.float32)
    colors = np.full((len(NAMES), 3), 200, np.uint8)
    bird_eye(points, {"truth": truth}, colors, tmp_path / "a.png", names=NAMES, title="道路 $")
    assert (tmp_path / "confusion.png").is_file()
    assert (tmp_path / "a.png").is_file()
