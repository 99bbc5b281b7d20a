"""The command query: what it says before and after, and how it fails."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.tasks.test_query import run, unit
from uov_jax import teachers
from uov_jax.command_line import query as script

__all__ = ["run"]  # a fixture


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def test_the_script_asks_for_words_without_weights(run, capsys):
    arguments = ["--checkpoint", str(run), "--text", "sedan", "traffic cone", "--top", "2"]
    assert script.main(arguments) == 0
    said = capsys.readouterr().out
    assert "'traffic cone', the 2 best places" in said
    assert "words for every point" in said
    assert f"Next: look at the pictures in {run / 'query'}" in said
    assert len(list((run / "query").glob("*.png"))) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "sedann"], "error: 'sedann' is neither a word nor a class"),
        (["--text", "sedan", "--keyframe", "99"], "'mini_val' has 2 keyframes, numbers 0 to 1"),
        (["--text", "sedan", "--keyframe", "-1"], "--keyframe -1: the split"),
        (["--text", "sedan", "--data", "nowhere"], "error: nowhere"),
        (["--text", "sedan", "--dumps", "nowhere"], "nowhere"),
    ],
)
def test_the_script_ends_with_one_message(run, capsys, arguments, message):
    assert script.main(["--checkpoint", str(run), *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_package_that_is_not_installed_is_named(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "uov_jax.teachers.weights", raising=False)
    weights = ["--weights", str(tmp_path / "weights.pth"), "--teacher", "san"]
    assert script.main(["--checkpoint", str(run), "--text", "a shopping cart", *weights]) == 1
    assert "error: the teacher 'san' needs the package 'torch'" in capsys.readouterr().err


def test_the_script_embeds_any_text_with_the_teachers_weights(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "weights.pth").write_bytes(b"weights")
    weights = ["--weights", str(tmp_path / "weights.pth")]
    arguments = ["--checkpoint", str(run), "--text", "a shopping cart", *weights]
    assert script.main(arguments) == 1
    assert "cannot be compared" in capsys.readouterr().err
    made: list[Any] = []

    def create(name: str, vocabulary: Any, options: Any) -> Any:
        made.append((name, vocabulary.words, options.weights))
        return SimpleNamespace(text_embeddings=unit(np.ones((1, 16))))

    monkeypatch.setattr(teachers, "create_teacher", create)
    monkeypatch.setattr(script.QueriedNetwork, "require_weights", lambda self, digest: None)
    assert script.main([*arguments, "--output", str(tmp_path / "out"), "--dumps", "nowhere"]) == 0
    assert made == [("tiny", ("a shopping cart",), (tmp_path / "weights.pth",))]
    assert script.main([*arguments, "--output", str(tmp_path / "out"), "--teacher", "san"]) == 0
    assert made[1][0] == "san"
    next((tmp_path / "out").glob("*_words.png")).unlink()
    (picture,) = (tmp_path / "out").iterdir()
    assert picture.name.endswith("_a_shopping_cart.png")
