"""One real ScanNet room through ESG: a training step and a prediction of MinkUNet18A at 2 cm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.conftest import real_root
from uov_jax.config import load_config
from uov_jax.datasets.rooms import RoomWriter
from uov_jax.fusion.features import FeatureManifest, FeatureWriter
from uov_jax.tasks.build import build_task
from uov_jax.training.loop import train
from uov_jax.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[2]
ROOM = "scene0000_00"
TWIN = "scene0000_01"  # the same room to be judged on: a training room must not be
# Of the 40,684 points that the scan was thinned to; 40,348 voxels.
VOXELS = 48_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The room in a store, and features made up of where its points are, for two in three."""
    rows = np.fromfile(real_root("scannet") / f"{ROOM}.bin", np.float32).reshape(-1, 6)
    folder = tmp_path_factory.mktemp("real")
    vocabulary = load_vocabulary("scannet")
    coords = np.ascontiguousarray(rows[:, :3])
    # No labels come with it; a class by height lets the prediction be judged.
    labels = np.clip(coords[:, 2] * 6, 1, 20).astype(np.uint8)
    writer = RoomWriter(folder / "store", "scannet", vocabulary)
    splits = {"train": ROOM, "val": TWIN}
    for split, name in splits.items():
        writer.write(name, coords, rows[:, 3:].astype(np.uint8), labels)
        writer.write_split(split, [name])
    rng = np.random.default_rng(0)
    text = rng.standard_normal((len(vocabulary), 768)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    manifest = FeatureManifest("made up", "", 768, "scannet", "scannet", vocabulary.hash)
    views = (rng.random(len(coords)) < 2 / 3).astype(np.uint16)
    features = FeatureWriter(folder / "features", manifest, text)
    for name in splits.values():
        features.write(name, views, (10 * text[labels[views > 0] - 1]).astype(np.float16))
    return folder


def test_a_real_room_trains_and_is_judged(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    config = load_config(str(ROOT / "configs" / "esg_scannet.py"))
    with config.unlocked():
        config.batch_size = config.total_steps = 1
        config.data.update(
            root=str(folder / "store"),
            features=str(folder / "features"),
            voxels=(VOXELS, VOXELS),
            workers=0,
        )
        config.run.update(
            evaluate_every_epochs=1.0,
            tensorboard=False,
            compilation_cache=str(tmp_path / "cache"),
        )
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
