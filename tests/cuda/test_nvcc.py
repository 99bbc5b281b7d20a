"""How CUDA's compiler is found and called; programs of a few lines stand in for it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from csrc.cuda import nvcc
from csrc.cuda.nvcc import Build, NvccError, Toolkit
from tests.cuda.made_up_nvcc import KNOWN, calls, made_up_nvcc


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment without nvcc, on a machine that has none installed either."""
    monkeypatch.setattr(nvcc, "INSTALLED", Path("/nowhere/nvcc"))
    monkeypatch.setattr(nvcc.sys, "path", [])
    monkeypatch.setattr(nvcc.sysconfig, "get_path", lambda name: f"/nowhere/{name}")
    return {"PATH": "/nowhere"}


def test_none_is_found_where_there_is_none(nowhere: dict[str, str]) -> None:
    with pytest.raises(NvccError) as none:
        nvcc.find(nowhere)
    assert str(none.value) == f"no nvcc of CUDA 12 or newer in {nvcc.PLACES}"


@pytest.mark.parametrize("place", ["CUDA_HOME", "CUDA_PATH", "PATH", "installed", "package"])
def test_every_place_is_looked_at(
    place: str, nowhere: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "nvidia" / "cu13"
    program = made_up_nvcc(folder)
    if place == "installed":
        monkeypatch.setattr(nvcc, "INSTALLED", program)
    elif place == "package":
        monkeypatch.setattr(nvcc.sys, "path", [str(tmp_path)])
    else:
        nowhere[place] = str(program.parent if place == "PATH" else folder)
    assert nvcc.find(nowhere) == Toolkit(program, (13, 0), KNOWN)


def test_an_isolated_build_finds_the_packages_of_its_environment(
    nowhere: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = made_up_nvcc(tmp_path / "nvidia" / "cu13")
    monkeypatch.setattr(nvcc.sysconfig, "get_path", lambda name: str(tmp_path))
    assert nvcc.find(nowhere).nvcc == program


def test_what_is_named_comes_before_what_is_found(nowhere: dict[str, str], tmp_path: Path) -> None:
    named, found = made_up_nvcc(tmp_path / "named"), made_up_nvcc(tmp_path / "found")
    nowhere |= {"PATH": str(found.parent), "CUDA_HOME": str(named.parents[1])}
    assert nvcc.find(nowhere).nvcc == named


@pytest.mark.parametrize("demanded", [False, True])
@pytest.mark.parametrize("named", ["empty", "old"])
def test_a_folder_that_is_named_is_not_passed_over_in_silence(
    named: str, demanded: bool, nowhere: dict[str, str], tmp_path: Path
) -> None:
    found = made_up_nvcc(tmp_path / "found")
    why = ""
    if named == "old":
        why = f" ({made_up_nvcc(tmp_path / 'old', '11.8')} is of CUDA 11.8)"
    folder = tmp_path / named
    nowhere |= {"PATH": str(found.parent), "CUDA_HOME": str(folder)}
    said: list[str] = []
    line = f"CUDA_HOME={folder} has no nvcc that can be used{why}"
    if demanded:
        with pytest.raises(NvccError) as error:
            nvcc.find(nowhere | {"UOV_CUDA": "1"}, said.append)
        assert str(error.value) == f"{line}; {found} is there: name its folder, or none"
        assert not said
    else:
        assert nvcc.find(nowhere, said.append).nvcc == found
        assert said == [f"{line}: taking {found}"]


def test_an_old_or_broken_one_is_passed_over_and_named(
    nowhere: dict[str, str], tmp_path: Path
) -> None:
    old, broken = made_up_nvcc(tmp_path / "old", "11.8"), made_up_nvcc(tmp_path / "broken")
    broken.write_text("#!/bin/sh\nexit 3\n")
    nowhere |= {"CUDA_HOME": str(tmp_path / "old"), "CUDA_PATH": str(tmp_path / "broken")}
    with pytest.raises(NvccError) as none:
        nvcc.find(nowhere)
    assert f"({old} is of CUDA 11.8; {broken} does not run: " in str(none.value)
    new = made_up_nvcc(tmp_path / "new", "12.0")
    nowhere["PATH"] = f"{new.parent}:{os.environ['PATH']}"
    assert nvcc.find(nowhere).nvcc == new


def test_it_is_built_for_what_the_compiler_knows(tmp_path: Path) -> None:
    toolkit = Toolkit(tmp_path, (13, 0), KNOWN)
    assert toolkit.architectures() == (80, 90, 100)
    assert toolkit.architectures("90") == (90,)
    for words in ("90 75", "90;75", "75, 90,75"):
        assert toolkit.architectures(words) == (75, 90)
    for words in ("86", "90 native", "9.0"):
        with pytest.raises(NvccError, match="is none of what CUDA 13.0 compiles for: 75, 80, 90"):
            toolkit.architectures(words)


def test_only_what_was_said_is_a_choice() -> None:
    assert nvcc.choice({}) == nvcc.choice({"UOV_CUDA": ""}) == "auto"
    assert nvcc.choice({"UOV_CUDA": "0"}) == "0"
    with pytest.raises(NvccError, match="UOV_CUDA=yes: expected 0, 1 or auto"):
        nvcc.choice({"UOV_CUDA": "yes"})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two sources, of which one includes a header."""
    folder = tmp_path / "a project"
    folder.mkdir()
    (folder / "kernels.cu").write_text('#include "rows.h"\n')
    (folder / "handlers.cpp").write_text("\n")
    (folder / "rows.h").write_text("\n")
    monkeypatch.chdir(folder)
    return folder


def built(tmp_path: Path, strict: bool = False, jobs: int = 1) -> tuple[list[str], list[str]]:
    """Build the project; returns the calls of the compiler and what was said."""
    if not (tmp_path / "cuda").exists():
        made_up_nvcc(tmp_path / "cuda")
    toolkit = Toolkit(tmp_path / "cuda" / "bin" / "nvcc", (13, 0), KNOWN)
    folder = Path("build")
    plan = Build(toolkit, (80, 90), ("csrc",), ("/headers",), "g++", strict, jobs, folder)
    said: list[str] = []
    nvcc.build(plan, ["handlers.cpp", "kernels.cu"], Path("out/module.so"), said.append)
    return calls(tmp_path / "cuda"), said


def touched(path: Path) -> None:
    later = time.time_ns() + 10**9
    os.utime(path, ns=(later, later))


def test_sources_are_compiled_and_linked(project: Path, tmp_path: Path) -> None:
    made, said = built(tmp_path, strict=True)
    assert said == ["compiling 2 of 2 CUDA sources for sm_80, sm_90"]
    kernels, handlers, linked = made
    targets = "-gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90,code=sm_90"
    assert f"kernels.cu {targets} -gencode=arch=compute_90,code=compute_90" in kernels
    assert "-Xptxas=-v" in kernels
    assert "handlers.cpp -gencode=arch=compute_80,code=sm_80 -I" in handlers
    for command in (kernels, handlers):
        assert "-std=c++17 -O3 -x cu" in command
        assert "-Icsrc -isystem /headers" in command
        assert "-Werror=all-warnings" in command
        assert "-ccbin g++" in command
    assert "-shared -cudart=static" in linked
    assert "build/handlers.cpp.o build/kernels.cu.o" in linked
    assert (project / "out" / "module.so").read_text() == "made\n"
    assert "Used 8 registers" in (project / "build" / "kernels.cu.log").read_text()
    assert sorted(path.suffix for path in (project / "build").iterdir()) == sorted(
        [".o", ".d", ".log", ".command"] * 2
    )


def test_only_what_changed_is_compiled_again(project: Path, tmp_path: Path) -> None:
    built(tmp_path)
    assert len(built(tmp_path)[0]) == 1  # it is linked
    touched(project / "rows.h")
    made, said = built(tmp_path)
    assert [" kernels.cu " in command for command in made] == [True, False]
    assert said == ["compiling 1 of 2 CUDA sources for sm_80, sm_90"]
    # Made before the header's time, which lies ahead: as if it was changed in the meantime.
    assert len(built(tmp_path)[0]) == 2
    now = time.time_ns()
    os.utime(project / "rows.h", ns=(now, now))
    built(tmp_path)
    assert len(built(tmp_path)[0]) == 1
    (project / "handlers.cpp").write_text("// changed\n")
    assert [" handlers.cpp " in command for command in built(tmp_path)[0]] == [True, False]
    assert len(built(tmp_path, strict=True)[0]) == 3  # another command
    (project / "rows.h").unlink()
    made, _ = built(tmp_path, strict=True)
    assert " kernels.cu " in made[0]


def test_processors_that_are_left_compile_for_several_architectures(
    project: Path, tmp_path: Path
) -> None:
    assert all("--threads=4" in command for command in built(tmp_path, jobs=8)[0][:2])
    (project / "handlers.cpp").write_text("// changed\n")
    made, _ = built(tmp_path, jobs=8)
    assert "--threads=8" in made[0]
    assert len(made) == 2  # with how many threads it was compiled does not matter


def test_what_does_not_compile_is_said_in_one_line_and_left_out(
    project: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    built(tmp_path)
    before = (project / "build" / "handlers.cpp.o").stat().st_mtime_ns
    program = tmp_path / "cuda" / "bin" / "nvcc"
    program.write_text("#!/bin/sh\necho 'note: so'\necho 'a.h(3): error: not so'\nexit 2\n")
    (project / "handlers.cpp").write_text("// changed\n")
    with pytest.raises(NvccError) as failed:
        built(tmp_path)
    assert str(failed.value) == "nvcc cannot make handlers.cpp: a.h(3): error: not so"
    assert "note: so\na.h(3): error: not so\n" in capfd.readouterr().err
    assert (project / "build" / "handlers.cpp.o").stat().st_mtime_ns == before
    assert not list((project / "build").glob("tmp*"))


def test_the_extensions_sources_are_the_kernels_and_what_is_around_them(tmp_path: Path) -> None:
    cuda, python = tmp_path / "csrc" / "cuda", tmp_path / "csrc" / "python"
    (cuda / "emulation").mkdir(parents=True)
    python.mkdir()
    for path in (cuda / "rows.cu", cuda / "rows_handlers.cpp", cuda / "emulation" / "fibre.cpp"):
        path.touch()
    (python / "cuda_module.cpp").touch()
    (python / "module.cpp").touch()
    assert nvcc.sources(tmp_path) == [
        "csrc/cuda/rows.cu",
        "csrc/cuda/rows_handlers.cpp",
        "csrc/python/cuda_module.cpp",
    ]
