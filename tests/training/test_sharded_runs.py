"""The same training on any number of devices and processes: losses, arrays, samples, pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.test_parallel import HERE, finish, free_port, start
from uov_jax.simulate import simulate_drive

ROOT = HERE.parents[1]
SWEEPS = 8


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen training keyframes with full LiDAR, small images, dumps and labels."""
    root = tmp_path_factory.mktemp("simulated") / "drive"
    simulate_drive(root, scenes=3, keyframes=8, seed=3, workers=2, image_scale=0.2)
    return root


def run(
    folder: Path, recipe: str, steps: int, devices: int, processes: int, fields: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What all processes together report, and the arrays after the first step."""
    folder.mkdir()
    words = ["--config", str(ROOT / "configs" / f"{recipe}.py"), "--steps", str(steps)]
    words += [f"--config.{name}={value}" for name, value in fields.items()]
    if processes > 1:
        words += ["--address", f"localhost:{free_port()}", "--processes", str(processes)]
    started = [
        start(
            "sharded_run.py",
            str(folder / f"{number}.npz"),
            *words,
            *(["--process", str(number)] * (processes > 1)),
            devices=devices // processes,
        )
        for number in range(processes)
    ]
    outputs = finish(*started, timeout=1800)
    reports = [
        json.loads(line) for text in outputs for line in text.splitlines() if line.startswith("{")
    ]
    assert len(reports) == processes
    arrays = []
    for number in range(processes):
        with np.load(folder / f"{number}.npz") as file:
            arrays.append({name: file[name] for name in file.files})
    for report, same in zip(reports[1:], arrays[1:], strict=True):
        assert report["losses"] == reports[0]["losses"]
        assert all(np.array_equal(same[name], arrays[0][name]) for name in arrays[0])
    seen = [sum(parts, []) for parts in zip(*(each["digests"] for each in reports), strict=True)]
    return reports[0] | {"digests": seen}, arrays[0]


def fields_of(drive: Path) -> dict[str, Any]:
    return {
        "data.root": drive,
        "data.version": "v1.0-sim",
        "data.train_split": "sim_train",
        "data.val_split": "",
        "data.voxels": "(20480, 20480)",
        "data.workers": 1,
        "batch_size": SWEEPS,
    }


def assert_first_step_is_the_same(runs: dict[str, Any]) -> None:
    """To 1e-5 in loss, parameters and statistics, of the very same samples.

    Of one draw: where a number before a ReLU is zero but for rounding, gradients may differ by
    more, see eight_devices.py.
    """
    (_, (first, arrays)), *others = runs.items()
    assert {len(set(seen)) for seen in first["digests"]} == {SWEEPS}
    for name, (found, its_arrays) in others:
        assert found["digests"] == first["digests"], name
        assert abs(found["losses"][0] - first["losses"][0]) < 1e-5, name
        assert its_arrays.keys() == arrays.keys()
        for path, array in arrays.items():
            worst = np.max(np.abs(its_arrays[path] - array))
            assert worst < 1e-5, (name, path, worst)


@pytest.mark.slow
def test_thirty_steps_of_pretraining_are_the_same_on_any_number_of_devices(
    drive: Path, tmp_path: Path
) -> None:
    """Eight shards: a device each in one process or two, or four to a device."""
    fields = fields_of(drive) | {
        "data.dumps": drive / "dumps" / "simulated",
        "sweeps_per_shard": 1,
        "optimizer.learning_rate": 0.25,  # that is 0.5 at 8 sweeps
    }
    spreads = {"one process of 8": (8, 1), "one process of 2": (2, 1), "two of 4": (8, 2)}
    runs = {
        name: run(tmp_path / f"{i}", "tmp_san", 30, *spread, fields)
        for i, (name, spread) in enumerate(spreads.items())
    }
    assert [runs[name][0]["shards"] for name in spreads] == [1, 4, 1]
    assert_first_step_is_the_same(runs)
    curves = np.array([found["losses"] for found, _ in runs.values()])
    assert curves.shape == (3, 30)
    # They learn, or there would be nothing to compare.
    assert curves[:, -5:].mean() < curves[:, :5].mean() - 0.2
    np.testing.assert_allclose(curves, np.broadcast_to(curves[0], curves.shape), rtol=0, atol=1e-3)


@pytest.mark.slow
def test_one_lovasz_term_of_all_sweeps_is_the_same_on_any_number_of_devices(
    drive: Path, tmp_path: Path
) -> None:
    """Gathered over all devices of two processes, and in shards of two over pairs of devices."""
    fields = fields_of(drive) | {"init.checkpoint": ""}
    whole = {
        name: run(tmp_path / name, "finetune_nuscenes", 2, *spread, fields)
        for name, spread in {"one": (1, 1), "four": (4, 1), "two of 4": (8, 2)}.items()
    }
    assert_first_step_is_the_same(whole)
    fields["sweeps_per_shard"] = 2
    pairs = {
        name: run(tmp_path / f"pairs {name}", "finetune_nuscenes", 2, *spread, fields)
        for name, spread in {"two": (2, 1), "two of 4": (8, 2)}.items()
    }
    assert_first_step_is_the_same(pairs)
    of_all, of_pairs = (runs["two of 4"][0]["losses"][0] for runs in (whole, pairs))
    assert abs(of_all - of_pairs) > 1e-5
