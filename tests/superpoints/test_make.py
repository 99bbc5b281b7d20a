"""Making pseudo labels of many keyframes, from Python and by the script."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.tiny_dataset import write_dataset, write_dumps
from uov_jax.datasets.nuscenes import read_lidarseg
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.folder import DumpFolder, MissingDumpError
from uov_jax.superpoints.labels import evaluation_labels
from uov_jax.superpoints.make import make_superpoints, prepare


def label(keyframes, dumps, vocabulary, root, workers=1, format="native"):
    folder = prepare(keyframes, dumps, vocabulary, root, format)
    return folder, list(make_superpoints(keyframes, dumps, vocabulary, folder, workers))


@pytest.fixture(scope="module")
def results(tmp_path_factory, tiny_keyframes, tiny_dumps, vocabulary):
    root = tmp_path_factory.mktemp("labels") / "tiny"
    return label(tiny_keyframes, tiny_dumps, vocabulary, root)


def test_every_keyframe_is_written_and_counted(results, tiny_keyframes, vocabulary):
    folder, found = results
    folder.check(tiny_keyframes)
    for keyframe, result in zip(tiny_keyframes, found, strict=True):
        assert result.bytes == folder.path(keyframe).stat().st_size
        assert result.points == 400
        pseudo = evaluation_labels(folder.raw_labels(keyframe, 400), vocabulary)
        truth = vocabulary.raw_to_eval[read_lidarseg(keyframe.lidarseg_path, 400)]
        assert result.labelled == np.count_nonzero(pseudo)
        expected = np.zeros((17, 17), int)
        for true, given in zip(truth, pseudo, strict=True):
            expected[true, given] += true > 0
        np.testing.assert_array_equal(result.counts, expected)
        assert np.trace(expected) > 0


def test_workers_change_nothing(tmp_path, results, tiny_keyframes, tiny_dumps, vocabulary):
    folder, found = label(tiny_keyframes, tiny_dumps, vocabulary, tmp_path / "two", workers=2)
    for keyframe, ours, theirs in zip(tiny_keyframes, found, results[1], strict=True):
        assert ours.bytes == theirs.bytes
        np.testing.assert_array_equal(ours.counts, theirs.counts)
        assert folder.path(keyframe).read_bytes() == results[0].path(keyframe).read_bytes()


ORPHAN = """
import multiprocessing, time
from uov_jax.superpoints import make as make_superpoints

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    lives = context.Event()
    worker = context.Process(target=work, args=(lives,))
    worker.start()
    lives.wait()
    print(worker.pid, flush=True)
    time.sleep(60)
"""
WORK = """
import time
from uov_jax.superpoints import make as make_superpoints

def work(lives):
    make_superpoints._start_worker(None)
    lives.set()
    time.sleep(60)
"""


def test_workers_leave_when_their_parent_is_killed(tmp_path):
    (tmp_path / "work.py").write_text(WORK)
    script = tmp_path / "parent.py"
    script.write_text("from work import work\n" + ORPHAN)
    search = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": search}
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}/stat").is_file() and time.monotonic() < deadline:
        if Path(f"/proc/{worker}/stat").read_text().split(")")[-1].split()[0] == "Z":
            break
        time.sleep(0.05)
    assert time.monotonic() < deadline, f"worker {worker} lives on"


def test_a_stopped_run_goes_on_and_reports_on_all(tmp_path, tiny_keyframes, tiny_dumps, vocabulary):
    root = tmp_path / "labels"
    folder = prepare(tiny_keyframes, tiny_dumps, vocabulary, root, "native")
    part = make_superpoints(tiny_keyframes, tiny_dumps, vocabulary, folder)
    next(part)
    part.close()
    times = folder.path(tiny_keyframes[0]).stat().st_mtime_ns
    _, found = label(tiny_keyframes, tiny_dumps, vocabulary, root)
    assert [bool(result.bytes) for result in found] == [False, True, True, True]
    assert folder.path(tiny_keyframes[0]).stat().st_mtime_ns == times
    assert all(result.counts is not None for result in found)


def test_a_truncated_file_of_an_earlier_run_is_named(
    tmp_path, tiny_keyframes, tiny_dumps, vocabulary
):
    folder, _ = label(tiny_keyframes[:1], tiny_dumps, vocabulary, tmp_path / "labels")
    path = folder.path(tiny_keyframes[0])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=rf"{path.name}: corrupt .* delete it and make it again"):
        label(tiny_keyframes[:1], tiny_dumps, vocabulary, tmp_path / "labels")


def test_missing_dumps_are_found_before_anything_is_written(
    tmp_path, tiny_keyframes, vocabulary, tiny_dumps
):
    dumps = DumpFolder(write_dumps(tmp_path / "d", tiny_keyframes[:2], vocabulary).root, vocabulary)
    with pytest.raises(MissingDumpError, match="2 of 4 keyframes have no dump"):
        prepare(tiny_keyframes, dumps, vocabulary, tmp_path / "labels", "native")
    assert not (tmp_path / "labels").exists()
    folder, _ = label(tiny_keyframes, tiny_dumps, vocabulary, tmp_path / "labels")
    # Labels that exist need no dump any more.
    prepare(tiny_keyframes, dumps, vocabulary, folder.root, "native")


def test_dumps_without_words_have_no_labels(tmp_path, tiny_keyframes, tiny_dumps, vocabulary):
    class Wordless:
        root, teacher, text_embeddings = tmp_path, "slic", None

    with pytest.raises(ValueError, match="the dumps of 'slic' have no words"):
        prepare(tiny_keyframes, Wordless(), vocabulary, tmp_path / "labels", "native")
    folder = prepare(tiny_keyframes, tiny_dumps, vocabulary, tmp_path / "labels", "native")
    with pytest.raises(ValueError, match="workers must be at least 1"):
        next(make_superpoints(tiny_keyframes, tiny_dumps, vocabulary, folder, 0))


# ---- script -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "make_superpoints.py"
    spec = importlib.util.spec_from_file_location("make_superpoints", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments(root: Path, dumps: Path, output: Path, *more: str) -> list[str]:
    options = {"data": root, "version": "v1.0-mini", "dumps": dumps, "output": output}
    parts = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return [*parts, "--split", "mini_train", "--split", "mini_val", "--workers", "1", *more]


def test_the_script_reports_purity_and_what_comes_next(
    tmp_path, tiny_root, tiny_dumps, script, capsys
):
    output = tmp_path / "labels"
    assert script.main(arguments(tiny_root, tiny_dumps.root, output)) == 0
    out = capsys.readouterr().out
    assert "4 of 4 keyframes to label with the masks of 'tiny'" in out
    assert "Wrote 4 keyframes" in out
    assert "driveable_surface" in out
    assert f"--config.data.labels={output}" in out
    assert "--config.data.train_split=mini_train --config.data.val_split=mini_val" in out
    # Of a teacher without a recipe of its own.
    assert "--config.init.checkpoint=runs/tmp_tiny" in out
    rows = (output / "purity.csv").read_text().splitlines()
    assert rows[0] == "class,points,coverage,right,purity,IoU"
    assert len(rows) == 18
    assert rows[-1].startswith("all,")
    assert len((output / "purity_confusion.csv").read_text().splitlines()) == 17
    assert script.main(arguments(tiny_root, tiny_dumps.root, output)) == 0
    again = capsys.readouterr().out
    assert "Wrote 0 keyframes (0 B); 4 were there before" in again
    assert out.partition("Against")[2] == again.partition("Against")[2]


def test_the_script_works_without_true_labels(tmp_path, script, vocabulary, capsys):
    root = write_dataset(tmp_path / "data", lidarseg=False)
    tables = NuScenesTables(root, "v1.0-mini")
    keyframes = tables.keyframes("mini_train") + tables.keyframes("mini_val")
    dumps = write_dumps(tmp_path / "dumps", keyframes, vocabulary)
    output = tmp_path / "labels"
    assert script.main(arguments(root, dumps.root, output, "--format", "npy")) == 0
    out = capsys.readouterr().out
    assert "The dataset has no true labels" in out
    assert len(list(output.glob("*_lidarseg.npy"))) == 4
    assert not (output / "purity.csv").exists()


def test_the_script_ends_with_one_clear_message(tmp_path, tiny_root, tiny_dumps, script, capsys):
    assert script.main(arguments(tiny_root, tmp_path, tmp_path / "labels")) == 1
    assert "dump.json: no teacher dumps here" in capsys.readouterr().err
    assert script.main(arguments(Path("/nowhere"), tiny_dumps.root, tmp_path / "labels")) == 1
    assert "To get nuScenes: register" in capsys.readouterr().err


def test_the_script_can_be_stopped(tmp_path, tiny_root, tiny_dumps, script, capsys, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "make_superpoints", stopped)
    assert script.main(arguments(tiny_root, tiny_dumps.root, tmp_path / "labels")) == 130
    assert "The same command goes on from here" in capsys.readouterr().err
