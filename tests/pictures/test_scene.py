"""The labellings of a scene, and the script that draws them."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_dataset import write_dataset
from uov_jax.command_line import draw
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.reference import open_dumps
from uov_jax.input.whole_sweep import keyframe_sample
from uov_jax.pictures.animation import animate
from uov_jax.pictures.scene import DrawnScene
from uov_jax.sparse import PlanSpec
from uov_jax.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[2]


def test_a_scene_has_every_labelling_there_is(drawn_root: Path) -> None:
    vocabulary = load_vocabulary()
    keyframes = NuScenesTables(drawn_root, "v1.0-mini").keyframes(["scene-0061"])
    scene = DrawnScene(keyframes, vocabulary, drawn_root / "dumps", drawn_root / "predicted")
    assert len(scene) == 2
    frame = scene[1]
    assert list(frame.panels) == ["truth", "teacher", "prediction"]
    sample = keyframe_sample(
        keyframes[1],
        vocabulary,
        [PlanSpec(2560, fractions=(1.0,) * 5)],
        dumps=open_dumps(drawn_root / "dumps", vocabulary),
    )
    np.testing.assert_array_equal(frame.panels["truth"], sample["truth"])
    np.testing.assert_array_equal(frame.panels["teacher"], sample["teacher_label"])
    assert (frame.panels["prediction"] == 4).all()


def test_frames_of_a_partly_labelled_scene_are_alike(tmp_path: Path) -> None:
    unlabelled = ["scene-0061-sample-0"]
    root = write_dataset(tmp_path, scenes=("scene-0061",), unlabelled=unlabelled)
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes(["scene-0061"])
    vocabulary = load_vocabulary()
    scene = DrawnScene(keyframes, vocabulary)
    assert scene.unlabelled == 1
    assert (scene[0].panels["truth"] == 0).all()
    assert (scene[1].panels["truth"] > 0).any()
    assert animate(iter(scene), vocabulary.colors, tmp_path / "a.gif") == 2
    with pytest.raises(ValueError, match="there is nothing to draw"):
        DrawnScene(keyframes[:1], vocabulary)


def test_a_scene_without_its_files_is_refused(tmp_path: Path, drawn_root: Path) -> None:
    vocabulary = load_vocabulary()
    keyframes = NuScenesTables(drawn_root, "v1.0-mini").keyframes(["scene-0061"])
    with pytest.raises(FileNotFoundError, match=r"no .*_lidarseg.bin at any depth, and 2 of 2"):
        DrawnScene(keyframes, vocabulary, predictions=drawn_root / "dumps")
    for network in ("one", "another"):
        shutil.copytree(drawn_root / "predicted", tmp_path / network)
    with pytest.raises(ValueError, match=r"predictions of the same sweep as .*another.*of one net"):
        DrawnScene(keyframes, vocabulary, predictions=tmp_path)
    bare = [dataclasses.replace(keyframe, lidarseg_path=None) for keyframe in keyframes]
    with pytest.raises(ValueError, match="there is nothing to draw"):
        DrawnScene(bare, vocabulary)


def test_the_script_draws_a_scene(
    tmp_path: Path, drawn_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--data",
        str(drawn_root),
        "--version",
        "v1.0-mini",
        "--output",
        str(tmp_path / "out"),
    ]
    arguments += ["--scene", "scene-0061", "--predictions", str(drawn_root / "predicted")]
    assert draw.main([*arguments, "--keyframes", "1", "--animation", ".gif"]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    stem = "scene-0061_000"
    assert names == {f"{stem}_above.png", f"{stem}_cameras.jpg", "scene-0061.gif"}
    assert "scene-0061.gif" in capsys.readouterr().out
    arguments[arguments.index("scene-0061")] = "scene-0062"
    assert draw.main(arguments) == 1
    assert "1 of 1 requested scenes are not in its scene" in capsys.readouterr().err
