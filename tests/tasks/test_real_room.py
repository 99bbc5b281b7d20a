"""One real ScanNet room through ESG: a training step and a prediction of MinkUNet18A at 2 cm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks.real_room import ROOM, VOXELS, room_config, write_room
from tests.conftest import real_root
from uov_jax.tasks.build import build_task
from uov_jax.training.loop import train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The room in a store, and features made up of where its points are, for two in three."""
    folder = tmp_path_factory.mktemp("real")
    write_room(real_root("scannet") / f"{ROOM}.bin", folder)
    return folder


def test_a_real_room_trains_and_is_judged(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    config = room_config(folder, tmp_path / "cache")
    config.run.evaluate_every_epochs = 1.0
    task: Any = build_task(config)
    seen: list[np.ndarray] = []
    plain = task._classify

    def classify(output: jax.Array) -> jax.Array:
        seen.append(np.asarray(output))
        return plain(output)

    task._classify = classify
    result = train(task, config, tmp_path, jax.devices()[:1])
    header, row = (tmp_path / "metrics.csv").read_text().splitlines()
    values = dict(zip(header.split(","), map(float, row.split(",")), strict=True))
    # A network with first weights knows nothing of the features' directions.
    assert 0.9 < values["loss"] < 1.1
    assert 0 < values["gradient_norm"] < 100
    assert 24_000 < values["seen_voxels"] < 28_500
    (output,) = seen
    assert output.shape == (VOXELS, 768)
    assert np.isfinite(output).all()
    number = int(np.count_nonzero(np.abs(output).sum(axis=1)))
    assert number == 40_348
    assert {"miou", "miou_seen", "miou_unseen"} <= set(result.metrics)
    assert result.metrics["teacher_miou_seen"] == 1
