"""The size of dumps that is said before the first is written, on a simulated drive."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.folder import DumpFolder, expected_bytes
from uov_jax.dumps.write import SAMPLE, dump_keyframes
from uov_jax.simulate import simulate_drive
from uov_jax.simulate.teacher import EMBEDDING_SIZE
from uov_jax.teachers import create_teacher
from uov_jax.vocabulary import load_vocabulary

UNITS = {"B": 1, "kB": 1e3, "MB": 1e6}
TOLERANCE = 0.2


@pytest.fixture(scope="module")
def large_drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of the full size: that of masks depends on it."""
    root = tmp_path_factory.mktemp("large") / "drive"
    simulate_drive(root, scenes=6, keyframes=1, workers=2)
    return root


def said_bytes(line: str) -> float:
    number, unit = re.search(r"(?:Expected size:|about) ([\d.]+) (\w+)", line).groups()
    return float(number) * UNITS[unit]


def test_a_teacher_of_words_takes_what_its_number_of_masks_lets_expect(large_drive):
    keyframes = NuScenesTables(large_drive, "v1.0-sim").keyframes("sim_train")
    folder = DumpFolder(large_drive / "dumps" / "simulated")
    dumps = [folder.read(keyframe) for keyframe in keyframes]
    masks = [camera.num_masks for dump in dumps for camera in dump.cameras]
    expected = expected_bytes(len(dumps), EMBEDDING_SIZE, sum(masks) / len(masks))
    written = sum(folder.path(keyframe).stat().st_size for keyframe in keyframes)
    assert written == pytest.approx(expected, rel=TOLERANCE)


def test_both_estimates_are_right(large_drive, tmp_path):
    keyframes = NuScenesTables(large_drive, "v1.0-sim").keyframes("sim_train")
    assert len(keyframes) > SAMPLE
    vocabulary = load_vocabulary()
    said: list[str] = []
    teacher = create_teacher("slic", vocabulary)
    result = dump_keyframes(teacher, keyframes, tmp_path, vocabulary, said.append)
    before, measured = (line for line in said if "about" in line or "Expected size" in line)
    assert "Expected size" in before
    assert result.bytes == pytest.approx(said_bytes(before), rel=TOLERANCE)
    assert result.bytes == pytest.approx(said_bytes(measured), rel=0.05)
