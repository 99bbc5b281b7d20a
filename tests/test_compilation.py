"""The compilation cache: whose word counts, and homes that are not there or not writable."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from uov_jax.compilation import use_cache
from uov_jax.user_cache import user_cache_directory

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def no_cache() -> Iterator[None]:
    before = getattr(jax.config, "jax_compilation_cache_dir", None)
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def chosen() -> str | None:
    found: str | None = getattr(jax.config, "jax_compilation_cache_dir", None)
    return found


def test_the_users_cache_directory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert use_cache() == tmp_path / "uov_jax" / "xla"
    assert chosen() == str(tmp_path / "uov_jax" / "xla")


def test_a_field_of_the_recipe_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert use_cache("~/mine") == tmp_path / "mine"
    assert chosen() == str(tmp_path / "mine")


def test_jaxs_own_variable_is_left_alone(tmp_path: Path) -> None:
    program = "from uov_jax.compilation import use_cache; import jax; print(use_cache())"
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax")}
    out = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert out.stdout.strip() == str(tmp_path / "jax")


def test_a_place_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(
        UserWarning, match="file/uov_jax/xla: compiled programs cannot be kept there"
    ):
        assert use_cache() is None
    with pytest.warns(UserWarning, match="file/own: compiled programs cannot be kept there"):
        assert use_cache(str(tmp_path / "file" / "own")) is None
    assert chosen() is None


def test_without_a_home_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert user_cache_directory() is None
    with pytest.warns(UserWarning, match="no home directory .* XDG_CACHE_HOME or JAX_COMP"):
        assert use_cache() is None
    assert chosen() is None
