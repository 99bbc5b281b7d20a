"""What a GPU check reports, also of what fails, hangs or has no time left; no GPU is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from uov_jax import sparse
from uov_jax.command_line import gpu_check, gpu_sanitizer, gpu_sweeps, gpu_voxels
from uov_jax.command_line.gpu_process import Ended, Programs
from uov_jax.command_line.gpu_report import CUT_OFF, FAILED, PASSED, SKIPPED, Row, Section, write
from uov_jax.command_line.gpu_values import ARITHMETICS, Product, product_rows, product_weights

ROOT = Path(__file__).parents[2]


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


def test_without_a_gpu_one_line_says_what_there_is_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for said in ("exit 9", "echo 'NVIDIA-SMI has failed'", "echo 'Old, [N/A], 1, 2 MiB, 3 MHz'"):
        script(tmp_path / "nvidia-smi", said)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        assert gpu_check.main(["--output", str(tmp_path / "report")]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: nvidia-smi finds no GPU on this machine: --emulate checks")
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "report").exists()


CHILD = """
import sys, time
print('{"what": "a layer", "figures": {"ms": 1.25}, "passed": %s}' % sys.argv[2], flush=True)
print("some words", flush=True)
if sys.argv[1] == "hangs":
    time.sleep(600)
sys.exit(sys.argv[1] == "breaks")
"""


@pytest.fixture
def checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, list[dict[str, object]], str]]:
    """Runs the check on a made-up card with made-up sections: status, sections and Markdown."""
    script(tmp_path / "nvidia-smi", "echo 'Made-up GPU, 9.0, 580.1, 143771 MiB, 1980 MHz'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "child.py").write_text(CHILD)
    monkeypatch.setattr(gpu_check, "LEAST", 1)

    def run(*sections: tuple[str, str], **limits: int) -> tuple[int, list[dict[str, object]], str]:
        commands = dict(zip(("products", "rows", "ceilings"), sections, strict=False))
        monkeypatch.setattr(
            gpu_check.Check,
            "child",
            lambda self, name: [sys.executable, str(tmp_path / "child.py"), *commands[name]],
        )
        for name, limit in limits.items():
            part = gpu_check.PARTS[name]._replace(seconds=limit)
            monkeypatch.setitem(gpu_check.PARTS, name, part)
        output = tmp_path / "report"
        chosen = [f"--section={name}" for name in commands]
        status = gpu_check.main(["--output", str(output), *chosen])
        report = json.loads((output / "gpu_check.json").read_text())
        assert report["machine"]["name"] == "Made-up GPU"
        return status, report["sections"], (output / "gpu_check.md").read_text()

    return run


def test_results_are_reported(checked: Callable[..., tuple[int, list[dict[str, object]], str]]):
    status, sections, text = checked(("ends", "true"), ("ends", "true"), ("ends", "null"))
    assert status == 0
    assert [section["state"] for section in sections] == [PASSED, PASSED, PASSED]
    assert sections[0]["rows"] == [{"what": "a layer", "figures": {"ms": 1.25}, "passed": True}]
    assert "| a layer | 1.25 | yes |" in text
    assert "| a layer | 1.25 |\n" in text


def test_what_goes_wrong_leaves_the_rest(
    checked: Callable[..., tuple[int, list[dict[str, object]], str]],
) -> None:
    start = time.monotonic()
    status, sections, text = checked(
        ("ends", "false"), ("breaks", "true"), ("hangs", "true"), ceilings=3
    )
    assert time.monotonic() - start < 300
    assert status == 1
    assert [section["state"] for section in sections] == [FAILED, FAILED, CUT_OFF]
    assert all(len(section["rows"]) == 1 for section in sections)
    assert all(section["said"] == "some words" for section in sections)
    assert "| a layer | 1.25 | **no** |" in text
    assert "    some words" in text


def test_a_check_without_a_verdict_has_not_passed(
    checked: Callable[..., tuple[int, list[dict[str, object]], str]],
) -> None:
    status, sections, _ = checked(("ends", "null"))
    assert status == 1
    assert (sections[0]["state"], sections[0]["said"]) == (FAILED, "nothing was checked")


def test_a_section_without_time_is_not_begun_and_not_in_order(
    checked: Callable[..., tuple[int, list[dict[str, object]], str]],
) -> None:
    status, sections, _ = checked(("hangs", "true"), products=0)
    assert status == 1
    assert sections[0]["state"] == SKIPPED
    assert sections[0]["said"] == "there was no time left"


def test_what_a_program_started_ends_with_it(tmp_path: Path) -> None:
    program = f"sleep 600 & echo $! > {tmp_path / 'started'}; wait"
    ended = Programs(tmp_path).follow(["bash", "-c", program], os.environ, 2)
    assert ended.cut_off
    started = Path(f"/proc/{(tmp_path / 'started').read_text().strip()}/stat")
    deadline = time.monotonic() + 60
    while started.exists() and started.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_programs_are_ended_from_another_thread_and_none_begins_after(tmp_path: Path) -> None:
    programs = Programs(tmp_path)
    begun = threading.Event()

    def take(line: str) -> bool:
        begun.set()
        return True

    with ThreadPoolExecutor(1) as pool:
        command = ["bash", "-c", "echo begun; sleep 600"]
        ended = pool.submit(programs.follow, command, os.environ, 600, take)
        assert begun.wait(60)
        programs.end_all()
        assert ended.result(60).status != 0
    assert programs.follow(["true"], os.environ, 60).cut_off


def test_nothing_is_checked_where_the_build_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: gpu_check.Check, section: Section, limit: float) -> None:
        self.follow(section, ["bash", "-c", "echo 'a.h(3): error'; exit 1"], limit)

    monkeypatch.setattr(gpu_check.Check, "build", fails)
    arguments = ["--output", str(tmp_path), "--emulate", "--section=build", "--section=ops"]
    assert gpu_check.main(arguments) == 1
    sections = json.loads((tmp_path / "gpu_check.json").read_text())["sections"]
    assert [section["state"] for section in sections] == [FAILED, SKIPPED]
    assert sections[0]["said"] == "a.h(3): error"


def test_a_report_is_written_before_anything_has_run(tmp_path: Path) -> None:
    write(tmp_path / "new", {"name": "a card"}, [Section("ops", "Times")])
    assert "| Times | skipped | 0 |" in (tmp_path / "new" / "gpu_check.md").read_text()
    assert Row.of(Row("x", {"ms": 1.5}, None).line()) == Row("x", {"ms": 1.5}, None)


SANITIZER = r"""
while [ "$1" != planted -a "$1" != python ]; do tool+="$1 "; shift; done
case "$tool $1 $2 $3" in
  *"memcheck "*" planted 64 0" | *"racecheck "*" planted 0 1") exit CONTROL ;;
  *" planted 0 0") exit 0 ;;
  *) echo "========= ERROR SUMMARY: 0 errors"; exit EXERCISE ;;
esac
"""


@pytest.mark.parametrize(
    ("control", "exercise", "passed"), [(86, 0, True), (86, 86, False), (0, 0, None)]
)
def test_the_sanitizer_is_believed_where_it_finds_what_was_planted(
    control: int, exercise: int, passed: bool | None, tmp_path: Path
) -> None:
    text = SANITIZER.replace("CONTROL", str(control)).replace("EXERCISE", str(exercise))
    text = text.replace("planted", str(tmp_path / "planted"), 1)
    text = text.replace('"*" planted', f'"*" {tmp_path / "planted"}')
    text = text.replace('*" planted 0 0"', f'*" {tmp_path / "planted"} 0 0"')
    program = script(tmp_path / "compute-sanitizer", text)
    compiler = script(tmp_path / "nvcc", "exit 0")
    programs = Programs(tmp_path)
    watched = gpu_sanitizer.check(
        program,
        [str(compiler)],
        ["python"],
        tmp_path,
        lambda command: programs.follow(command, os.environ, 60),
    )
    assert [row.passed for row in watched.rows] == [passed, passed]
    assert [row.what.split()[0].rstrip(":") for row in watched.rows] == ["memcheck", "racecheck"]
    assert watched.complete == (passed is not None)
    assert not watched.cut_off


@pytest.mark.parametrize("when", ["at the compiler", "at the control", "at every op"])
def test_a_sanitizer_that_runs_out_of_time_is_cut_off(when: str, tmp_path: Path) -> None:
    found = gpu_sanitizer.FOUND

    def run(command: Sequence[str]) -> Ended:
        compiles, exercises = command[0] == "nvcc", command[-1] == "exercise"
        late = {"at the compiler": compiles, "at every op": exercises}.get(when, True)
        if late and not (compiles and when == "at the control"):
            return Ended(-9, True, "")
        planted = not compiles and not exercises and command[-2:] != ["0", "0"]
        return Ended(found if planted else 0, False, "")

    watched = gpu_sanitizer.check(Path("sanitizer"), ["nvcc"], ["exercise"], tmp_path, run)
    assert watched.cut_off
    assert not watched.complete


@pytest.mark.parametrize(
    ("verdicts", "cut_off", "state"),
    [
        ((True, True), False, PASSED),
        ((True, False), False, FAILED),
        ((True, None), False, SKIPPED),
        ((True, None), True, CUT_OFF),
    ],
)
def test_the_sanitizer_s_section_passes_if_every_tool_has_looked(
    verdicts: tuple[bool | None, ...],
    cut_off: bool,
    state: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script(tmp_path / "nvidia-smi", "echo 'Made-up GPU, 9.0, 580.1, 143771 MiB, 1980 MHz'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(gpu_sanitizer, "sanitizer", lambda: tmp_path / "compute-sanitizer")
    monkeypatch.setattr(gpu_check.runpy, "run_path", lambda _: {"find": Toolkit})
    rows = [Row("a tool", {}, verdict) for verdict in verdicts]
    watched = gpu_sanitizer.Watched(rows, cut_off)
    monkeypatch.setattr(gpu_sanitizer, "check", lambda *_: watched)
    arguments = ["--output", str(tmp_path / "report"), "--section=sanitizer"]
    assert gpu_check.main(arguments) == (state != PASSED)
    report = json.loads((tmp_path / "report" / "gpu_check.json").read_text())
    assert report["sections"][0]["state"] == state


class Toolkit:
    """What stands for a found compiler."""

    nvcc = Path("nvcc")


def test_what_is_not_installed_may_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "nvidia-smi", "echo 'Made-up GPU, 9.0, 580.1, 143771 MiB, 1980 MHz'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(gpu_sanitizer, "sanitizer", lambda: None)
    arguments = ["--output", str(tmp_path / "report"), "--section=sanitizer"]
    assert gpu_check.main(arguments) == 0


def test_the_planted_faults_compile(tmp_path: Path) -> None:
    from csrc.cuda import nvcc

    try:
        toolkit = nvcc.find()
    except nvcc.NvccError as error:
        pytest.skip(str(error))
    (tmp_path / "planted.cu").write_text(gpu_sanitizer.PLANTED)
    command = [toolkit.nvcc, "-arch=sm_90", "-Werror=all-warnings", "-o", tmp_path / "planted"]
    subprocess.run([*command, tmp_path / "planted.cu"], check=True)


def random_product() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((300, 24), np.float32)
    w = generator.standard_normal((5, 24, 16), np.float32)
    return x, w, generator.integers(-1, 300, (5, 200)).astype(np.int32)


def test_products_are_what_they_say() -> None:
    x, w, index = random_product()
    found = product_rows(x, w, index)
    n, m = 7, 3
    terms = [x[index[k, n]].astype(float) * w[k, :, m] for k in range(5) if index[k, n] >= 0]
    assert found.value[n, m] == pytest.approx(np.sum(terms), rel=1e-12)
    assert found.deviation[n, m] == pytest.approx(np.sqrt(np.sum(np.square(terms))), rel=1e-12)
    assert found.terms[n, 0] == 24 * len(terms)
    dy = np.random.default_rng(1).standard_normal((200, 16)).astype(np.float32)
    weights = product_weights(x, dy, index[2])
    there = index[2] >= 0
    assert weights.terms == there.sum()
    np.testing.assert_allclose(weights.value, x[index[2][there]].T.astype(float) @ dy[there])


@pytest.mark.parametrize("arithmetic", ARITHMETICS, ids=lambda each: each.name)
def test_roundings_are_within_bounds_and_wrong_rows_are_not(arithmetic) -> None:
    x, w, index = random_product()
    product = product_rows(x, w, index)

    def error(found: np.ndarray) -> float:
        return product.error(found.astype(np.float32), arithmetic, arithmetic.result)

    assert error(product.value) <= 1
    # Rounded as much as the arithmetic says, up or down as it comes.
    signs = np.sign(np.random.default_rng(2).standard_normal(x.shape))
    rounded = x * (1 + arithmetic.factor * signs)
    assert error(product_rows(rounded, w, index).value) <= 1
    wrong = index.copy()
    row = np.flatnonzero(index[0] >= 0)[0]
    wrong[0, row] = -1 if wrong[0, row] else 1
    assert error(product_rows(x, w, wrong).value) > 1
    lost = product.value.copy()
    lost[5, 5] = np.nan
    assert error(lost) == np.inf
    nothing = product_rows(x, w, np.full((5, 4), -1, np.int32))
    assert nothing.error(np.zeros((4, 16), np.float32), arithmetic, arithmetic.result) == 0
    assert nothing.error(np.full((4, 16), 1e-9, np.float32), arithmetic, 0.0) == np.inf


def test_sums_in_another_order_are_within_bounds() -> None:
    x, w, index = random_product()
    product, found = product_rows(x, w, index), np.zeros((200, 16), np.float32)
    for slot, weight in zip(index[::-1], w[::-1], strict=True):
        found[slot >= 0] += x[slot[slot >= 0]] @ weight
    assert product.error(found, ARITHMETICS[0], 2.0**-24) <= 1
    assert isinstance(product, Product)


def test_voxels_out_of_order_are_noticed() -> None:
    points = gpu_sweeps.points_of(40_000)[::50]
    found = sparse.voxelize(points, gpu_sweeps.VOXEL_SIZE, cylindrical=True)
    count = len(found.first)
    assert 1 < count < len(points)
    coords, first = (np.full((len(points), *a.shape[1:]), -1, a.dtype) for a in found[:2])
    coords[:count], first[:count] = found.coords, found.first
    inverse = found.inverse
    assert gpu_voxels.in_order(coords, first, inverse, count)
    assert not gpu_voxels.in_order(coords, first, inverse, count - 1)
    assert not gpu_voxels.in_order(coords, first, np.roll(inverse, 1), count)
    assert not gpu_voxels.in_order(coords, np.roll(first, 1), inverse, count)
    behind, twice = coords.copy(), coords.copy()
    behind[-1], twice[1] = 0, twice[0]
    assert not gpu_voxels.in_order(behind, first, inverse, count)
    assert not gpu_voxels.in_order(twice, first, inverse, count)


def test_points_on_a_face_between_azimuths_may_be_on_either_side() -> None:
    degrees = np.radians([10.0, 10.00003, 10.001, 10.0])
    points = np.stack([np.cos(degrees), np.sin(degrees), 0 * degrees], 1).astype(np.float32)
    cells = np.array([[10, 10, 0]] * 4)
    others = np.array([[10, 9, 0], [10, 9, 0], [10, 9, 0], [11, 9, 0]])
    np.testing.assert_array_equal(
        gpu_voxels.beside(points, cells, others), [True, True, False, False]
    )
    np.testing.assert_array_equal(gpu_voxels.beside(points, cells, cells), [False] * 4)


def test_made_up_sweeps_are_like_sweeps() -> None:
    cloud = gpu_sweeps.points(0)
    assert 20_000 < len(cloud) < 34_880
    assert np.linalg.norm(cloud, axis=1).max() < 75
    np.testing.assert_array_equal(cloud, gpu_sweeps.points(0))
    coords = gpu_sweeps.cloud_of(50_000)
    assert coords.shape == (50_000, 4)
    assert len(np.unique(coords, axis=0)) == 50_000
    assert set(coords[:, 0].tolist()) == {0, 1, 2}


@pytest.mark.slow
def test_the_whole_check_runs_emulated(tmp_path: Path) -> None:
    assert gpu_check.main(["--output", str(tmp_path), "--emulate"]) == 0
    sections = json.loads((tmp_path / "gpu_check.json").read_text())["sections"]
    states = {section["name"]: section["state"] for section in sections}
    assert states.pop("sanitizer") == SKIPPED
    assert set(states.values()) == {PASSED}
    assert all(
        section["rows"] for section in sections if section["name"] in states.keys() - {"build"}
    )
