"""Scenes: one picture a frame in every format, every labelling, recordings for Rerun."""

from __future__ import annotations

import dataclasses
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data_pipeline.tiny_dataset import write_dataset, write_dumps
from uov_jax.data.evaluation_sample import evaluation_sample
from uov_jax.data.label_files import NuScenesLabelFiles, write_labels
from uov_jax.data.nuscenes import NuScenesTables, read_sweep
from uov_jax.data.reference_dump import open_dumps
from uov_jax.evaluation.animation import Frame, animate
from uov_jax.evaluation.drawn_scene import DrawnScene
from uov_jax.evaluation.rerun_file import write_recording
from uov_jax.sparse import PlanSpec
from uov_jax.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[2]
COLORS = np.array([[0, 0, 0], [250, 10, 10], [10, 20, 250]], np.uint8)


def frames(count: int) -> list[Frame]:
    """Sweeps whose points are of class 1 in even frames and 2 in odd ones, without cameras."""
    generator = np.random.default_rng(0)
    points = generator.uniform(-30, 30, (500, 4)).astype(np.float32)
    return [Frame(points, {"truth": np.full(500, 1 + i % 2)}, None) for i in range(count)]


@pytest.mark.parametrize("ending", [".webp", ".gif", ".png"])
def test_every_frame_shows_its_labels(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"scene{ending}"
    assert animate(iter(frames(3)), COLORS, path, names=("ignore", "car", "bus")) == 3
    with Image.open(path) as image:
        assert image.n_frames == 3
        for number in range(3):
            image.seek(number)
            pixels = np.asarray(image.convert("RGB")).astype(int)[40:500]
            # Lossy formats blur colours of single points, but keep red from blue.
            redder = pixels[..., 0] - pixels[..., 2]
            counts = [(redder > 60).sum(), (redder < -60).sum()]
            assert counts[number % 2] > 500
            assert counts[1 - number % 2] < 50
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene of two keyframes with dumps, and predictions of class 4 everywhere."""
    root = write_dataset(tmp_path_factory.mktemp("dataset"), scenes=("scene-0061",))
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes(["scene-0061"])
    write_dumps(root / "dumps", keyframes, load_vocabulary())
    files = NuScenesLabelFiles(keyframes, "val")
    for index, keyframe in enumerate(keyframes):
        number = len(read_sweep(keyframe.lidar_path))
        write_labels(files, root / "predicted", index, np.full(number, 4, np.uint8))
    return root


def test_a_scene_has_every_labelling_there_is(tmp_path: Path, root: Path) -> None:
    vocabulary = load_vocabulary()
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes(["scene-0061"])
    scene = DrawnScene(keyframes, vocabulary, root / "dumps", root / "predicted")
    assert len(scene) == 2
    frame = scene[1]
    assert list(frame.panels) == ["truth", "teacher", "prediction"]
    sample = evaluation_sample(
        keyframes[1], vocabulary, [PlanSpec(2560)], dumps=open_dumps(root / "dumps", vocabulary)
    )
    np.testing.assert_array_equal(frame.panels["truth"], sample["truth"])
    np.testing.assert_array_equal(frame.panels["teacher"], sample["teacher_label"])
    assert (frame.panels["prediction"] == 4).all()
    assert animate(iter(scene), vocabulary.colors, tmp_path / "scene.webp") == 2
    with Image.open(tmp_path / "scene.webp") as image:
        wide = image.size
    # Three cameras of 480 pixels in a row, above the panels.
    assert wide[0] == 3 * 480 + 2 * 4
    assert wide[1] > 270 + 350


def test_a_scene_without_its_files_is_refused(tmp_path: Path, root: Path) -> None:
    vocabulary = load_vocabulary()
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes(["scene-0061"])
    with pytest.raises(FileNotFoundError, match=r"no .*_lidarseg.bin at any depth, and 2 of 2"):
        DrawnScene(keyframes, vocabulary, predictions=root / "dumps")
    bare = [dataclasses.replace(keyframe, lidarseg_path=None) for keyframe in keyframes]
    with pytest.raises(ValueError, match="there is nothing to draw"):
        DrawnScene(bare, vocabulary)


def test_the_script_draws_a_scene(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = runpy.run_path(str(ROOT / "scripts" / "draw.py"))["main"]
    arguments = ["--data", str(root), "--version", "v1.0-mini", "--output", str(tmp_path / "out")]
    arguments += ["--scene", "scene-0061", "--predictions", str(root / "predicted")]
    assert draw([*arguments, "--keyframes", "1", "--animation", ".gif"]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    stem = "scene-0061_000"
    assert names == {f"{stem}_above.png", f"{stem}_cameras.jpg", "scene-0061.gif"}
    assert "scene-0061.gif" in capsys.readouterr().out
    arguments[arguments.index("scene-0061")] = "scene-0062"
    assert draw(arguments) == 1
    assert "1 of 1 requested scenes are not in its scene" in capsys.readouterr().err


def test_without_rerun_one_message_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ImportError, match=r"need the package rerun-sdk .*uov-jax\[rerun\]"):
        write_recording(iter(frames(1)), COLORS, tmp_path / "scene.rrd")


def test_a_recording_has_points_cameras_and_labels(tmp_path: Path, root: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is an optional extra")
    vocabulary = load_vocabulary()
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes(["scene-0061"])
    scene = DrawnScene(keyframes, vocabulary, predictions=root / "predicted")
    path = tmp_path / "scene.rrd"
    names = vocabulary.eval_classes
    assert write_recording(iter(scene), vocabulary.colors, path, names=names) == 2
    content = path.read_bytes()
    assert content[:3] == b"RRF"
    # Images are kept as the JPEGs they are, points as float32.
    assert keyframes[0].cameras[0].path.read_bytes() in content or len(content) > 50_000
    assert [entry.name for entry in tmp_path.iterdir()] == ["scene.rrd"]
    with pytest.raises(ValueError, match=r"none.rrd: a recording needs at least one frame"):
        write_recording(iter([]), COLORS, tmp_path / "none.rrd")
    assert [entry.name for entry in tmp_path.iterdir()] == ["scene.rrd"]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"scene.mp4: an animation is one of .webp, .gif, .png"):
        animate(iter(frames(1)), COLORS, tmp_path / "scene.mp4")
    with pytest.raises(ValueError, match=r"scene.gif: an animation needs at least one frame"):
        animate(iter([]), COLORS, tmp_path / "scene.gif")
    assert not list(tmp_path.iterdir())
