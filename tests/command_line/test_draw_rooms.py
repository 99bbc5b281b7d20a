"""The command draw_rooms: what it draws, and how it fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny_rooms import write_features, write_rooms
from uov_jax.command_line import draw_rooms as script
from uov_jax.datasets.room_labels import RoomLabelFormat
from uov_jax.datasets.submission import write_labels
from uov_jax.fusion.make_pseudo_labels import LabelSettings, RoomLabeller
from uov_jax.vocabulary import load_vocabulary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `rooms`, `features`, `labels` and `predicted` of the room of `val`."""
    root = tmp_path_factory.mktemp("rooms")
    vocabulary = load_vocabulary("scannet")
    store = write_rooms(root / "rooms", vocabulary)
    features = write_features(root / "features", store, vocabulary)
    labeller = RoomLabeller(store, features, vocabulary, root / "labels", LabelSettings())
    list(labeller.label(["scene0002_00"]))
    points = store.facts("scene0002_00").points
    form = RoomLabelFormat(["scene0002_00"], vocabulary)
    write_labels(form, root / "predicted", 0, np.full(points, 4, np.uint8))
    return root


def arguments(folder: Path, output: Path, *more: str) -> list[str]:
    return ["--rooms", str(folder / "rooms"), "--output", str(output), *more]


def test_every_room_is_drawn_with_what_there_is(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert script.main(arguments(folder, tmp_path)) == 0
    said = capsys.readouterr().out
    assert "Drawing 3 rooms" in said
    assert f"Next: look at {tmp_path}" in said
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["scene0000_00.png", "scene0001_00.png", "scene0002_00.png"]
    everything = [f"--{name}={folder / name}" for name in ("features", "labels")] + [
        f"--predictions={folder / 'predicted'}",
        "--split=val",
    ]
    assert script.main(arguments(folder, tmp_path / "all", *everything)) == 0
    with Image.open(tmp_path / "scene0002_00.png") as plain:
        with Image.open(tmp_path / "all" / "scene0002_00.png") as whole:
            # Colours and truth; those, pseudo labels, prediction, features and errors.
            assert (plain.width + 4) * 3 == whole.width + 4


def test_rooms_are_recorded_for_rerun(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is an optional extra")
    assert script.main(arguments(folder, tmp_path, "--rerun", "--split", "train")) == 0
    assert (tmp_path / "rooms.rrd").read_bytes()[:3] == b"RRF"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--room", "kitchen"], "no such room"),
        (["--labels", "{}/labels"], "2 of 3 rooms have no pseudo labels"),
        (["--predictions", "{}/predicted"], "no such file of predicted labels"),
        (["--vocabulary", "s3dis"], "labels of the vocabulary 'scannet', not of 's3dis'"),
        (["--features", "{}/rooms"], "no fused features here"),
    ],
)
def test_mistakes_are_told_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, more: list[str], message: str
) -> None:
    words = [word.format(folder) for word in more]
    assert script.main(arguments(folder, tmp_path, *words)) == 1
    assert message in capsys.readouterr().err
