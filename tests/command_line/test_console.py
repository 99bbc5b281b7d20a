"""The console's `uov-jax`: every command, in its words, and the recipes wherever it is typed."""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.pages import ROOT, whole_lines
from uov_jax.command_line import chain, command, console, export_features
from uov_jax.command_line.recipe import read_recipe
from uov_jax.command_line.typed import as_typed, by_console
from uov_jax.config import load_config

COMMANDS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))


def helped(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the console shows of `--help`."""
    with pytest.raises(SystemExit) as left:
        console.main(arguments)
    assert left.value.code == 0
    return capsys.readouterr().out


def examples(name: str) -> list[list[str]]:
    """The commands in a command's documentation, those of itself."""
    text = importlib.import_module(f"uov_jax.command_line.{name}").__doc__ or ""
    lines = [line for line in whole_lines(text) if line.startswith(f"    python scripts/{name}.py")]
    return [shlex.split(line, comments=True)[2:] for line in lines]


def test_the_environment_has_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, function = project["scripts"]["uov-jax"].partition(":")
    assert getattr(importlib.import_module(module), function) is console.main


def test_every_script_is_a_command_and_nothing_else_is() -> None:
    found = console.commands()
    assert list(found) == COMMANDS
    assert all(sentence.endswith(".") for sentence in found.values()), found


def test_its_help_names_all_and_imports_none() -> None:
    """Most of them import JAX, which takes seconds."""
    code = (
        "import sys; from uov_jax.command_line.console import main; status = main();"
        "print(status, sorted({'jax', 'flax', 'torch', 'matplotlib', 'scipy'} & {*sys.modules}))"
    )
    for words in ([], ["--help"], ["-h"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True
        )
        assert done.stdout.endswith("\n0 []\n"), done.stdout + done.stderr
        for name in COMMANDS:
            assert f"  {name.replace('_', '-')} " in done.stdout


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["predict"]])
def test_whoever_stops_reading_hears_nothing_more(words: list[str]) -> None:
    code = "import sys; from uov_jax.command_line.console import main; sys.exit(main())"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    if words == ["predict"]:  # Its mistake goes to standard error, which is read.
        assert done.returncode == 2
        assert b"arguments are required" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (command.UNREAD, b"")


def test_a_command_whose_output_nobody_reads_ends_in_silence() -> None:
    code = """
        import sys
        from uov_jax.command_line import command
        def work():
            for _ in range(100_000): print("a line")
        sys.exit(command.run(work))
    """
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT, stdout=writing, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (command.UNREAD, b"")


def test_another_broken_pipe_is_a_bug_that_is_shown() -> None:
    def work() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        command.run(work)


@pytest.mark.parametrize("columns", [30, 80, 200])
def test_its_help_fits_the_terminal(columns: int) -> None:
    lines = console.overview(columns).partition("The commands")[2].splitlines()[2:]
    # A column of text stays readable.
    assert max(map(len, lines)) <= max(columns, 62)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("trian", "did you mean train?"),
        ("draw_room", "did you mean draw-rooms?"),
        ("simulate-room", "did you mean simulate-rooms?"),
        ("moon", "uov-jax --help lists them"),
        ("--config", "uov-jax --help lists them"),
        # Modules that are no commands.
        ("command", "uov-jax --help lists them"),
        ("../train", "did you mean train?"),
    ],
)
def test_an_unknown_command_is_one_line_with_the_nearest(
    word: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.main([word, "--help"]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"error: {word}: there is no such command; {hint}\n"
    assert captured.out == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_is_in_the_consoles_words_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"uov-jax {name.replace('_', '-')}"
    text = helped([name, "--help"], capsys)
    assert text.startswith(f"usage: {words} [-h]")
    assert f"\n    {words}" in text
    assert "scripts/" not in text
    assert helped([name.replace("_", "-"), "--help"], capsys) == text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_taken(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(f"uov_jax.command_line.{name}")
    found = examples(name)
    assert found
    for arguments in found:
        options = module.parse(arguments)
        if "fields" in options and "config" in options:
            read_recipe(options)


def test_scripts_speak_of_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    from uov_jax.command_line import draw_rooms

    with pytest.raises(SystemExit):
        draw_rooms.main(["--help"])
    text = capsys.readouterr().out
    assert "\n    python scripts/draw_rooms.py --rooms" in text
    assert "uov-jax" not in text


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("python scripts/draw_rooms.py --rooms a", "uov-jax draw-rooms --rooms a"),
        ("run scripts/dump_teacher.py again", "run uov-jax dump-teacher again"),
        ("--config configs/tmp_san.py:sim", "--config tmp_san:sim"),
        ("--config=configs/tmp_san.py", "--config=tmp_san"),
        ("that configs/esg_*.py trained", "that esg_* trained"),
        # Somebody's own.
        ("/home/me/scripts/train.py", "/home/me/scripts/train.py"),
        ("--config mine/configs/tmp_san.py", "--config mine/configs/tmp_san.py"),
        ("./configs/tmp_san.py", "./configs/tmp_san.py"),
    ],
)
def test_commands_and_recipes_are_put_into_the_consoles_words(text: str, typed: str) -> None:
    assert as_typed(text) == text
    with by_console("train"):
        assert as_typed(text) == typed
    assert as_typed(text) == text


def test_next_steps_and_errors_are_in_the_consoles_words(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with by_console("train"):
        command.say_next("python scripts/evaluate.py --config configs/tmp_san.py:sim", "look at it")
    assert capsys.readouterr().out == (
        "Next: uov-jax evaluate --config tmp_san:sim\n  or: look at it\n"
    )
    assert console.main(["train", "--config=tmp_san:sim", "--config.data.root=nowhere"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: nowhere: no nuScenes dataset")
    assert "`uov-jax simulate --output DIR`" in error
    assert "scripts/" not in error
    assert console.main(["evaluate"]) == 1
    assert "error: give a recipe: --config tmp_san, or" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_chain_goes_on_in_the_words_that_it_was_started_in(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("--config=configs/tmp_san.py:sim", "--config.data.root=nowhere")
    stage = chain.Stage("Training", "train", arguments, tmp_path / "none", 1)
    assert chain.run([stage]) == 1
    said = capfd.readouterr()
    assert "\npython scripts/train.py --config=configs/tmp_san.py:sim" in said.out
    assert "`python scripts/simulate.py --output DIR`" in said.err
    with by_console("demo"):
        assert chain.run([stage]) == 1
    said = capfd.readouterr()
    assert "\nuov-jax train --config=tmp_san:sim --config.data.root=nowhere\n" in said.out
    assert "`uov-jax simulate --output DIR`" in said.err


def test_the_next_recipe_of_a_named_one_is_that_of_the_same_rooms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for recipe in ("ess_s3dis:sim", "configs/ess_s3dis.py:sim"):
        options = SimpleNamespace(config=recipe)
        words = export_features.training_command(
            options, load_config(recipe), Path("a/specialised")
        )
        assert shlex.split(words)[2:4] == ["--config", recipe.replace("ess", "esg")]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel has of Python, laid out as installed, and this machine's engine."""
    folder = tmp_path_factory.mktemp("installed")
    checkout, library = folder / "checkout", folder / "library"
    for name in ("uov_jax", "configs", "csrc"):
        unwanted = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / name, checkout / name, ignore=unwanted)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, checkout)
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_py", f"--build-lib={library}", "sdist"],
        cwd=checkout,
        env=os.environ | {"UOV_CUDA": "0"},
        capture_output=True,
        check=True,
        timeout=300,
    )
    for engine in (ROOT / "uov_jax").glob("_engine*"):
        (library / "uov_jax" / engine.name).unlink(missing_ok=True)
        (library / "uov_jax" / engine.name).symlink_to(engine)
    return folder


def test_an_installed_package_has_the_recipes_and_so_have_its_sources(installed: Path) -> None:
    recipes = sorted(path.name for path in (ROOT / "configs").glob("*.py"))
    folder = installed / "library" / "uov_jax" / "recipes"
    assert sorted(path.name for path in folder.glob("*.py")) == recipes
    # The one folder of them stays where it is.
    assert not (installed / "checkout" / "uov_jax" / "recipes").exists()
    (archive,) = (installed / "checkout" / "dist").glob("*.tar.gz")
    shutil.unpack_archive(archive, installed / "sources", filter="data")
    (sources,) = (installed / "sources").iterdir()
    assert sorted(path.name for path in (sources / "configs").glob("*.py")) == recipes


@pytest.mark.parametrize("recipe", ["tmp_san:sim", "configs/tmp_san.py:sim"])
def test_an_installed_package_takes_its_recipes_in_an_empty_folder(
    installed: Path, tmp_path: Path, recipe: str
) -> None:
    code = (
        "import sys, uov_jax; from uov_jax.command_line.console import main;"
        "print(uov_jax.__file__); sys.exit(main())"
    )
    words = ["train", "--config", recipe, "--config.data.root=nowhere"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed / "library")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.startswith(str(installed)), done.stdout + done.stderr
    assert done.returncode == 1
    assert done.stderr.startswith("error: nowhere: no nuScenes dataset of version v1.0-sim")
    assert not list(tmp_path.iterdir())
