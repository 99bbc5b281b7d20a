"""Spreading a step over devices and processes, each in fresh processes of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uov_jax.checkpoints.folder import read_arrays
from uov_jax.training.parallel import Parallel, choose_devices

HERE = Path(__file__).parent


def start(program: str, *arguments: str, devices: int) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]),
        "JAX_PLATFORMS": "cpu",
    }
    return subprocess.Popen(
        [sys.executable, str(HERE / program), *arguments],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A process group of its own, as a scheduler gives it.
        start_new_session=True,
    )


def finish(*processes: subprocess.Popen[str], timeout: float = 300) -> list[str]:
    outputs = []
    try:
        for process in processes:
            output, _ = process.communicate(timeout=timeout)
            outputs.append(output)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
    return outputs


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return int(server.getsockname()[1])


def test_step_on_eight_devices_is_one_step_with_pooled_statistics() -> None:
    """Loss, parameters and running statistics agree with the single-device oracle to 1e-5."""
    (output,) = finish(start("eight_devices.py", devices=8))
    (errors,) = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert errors["loss_value"] > 1.0
    for name in ("loss", "statistics", "parameters"):
        assert errors[name] < 1e-5, errors


def test_losses_of_rooms_do_not_depend_on_the_number_of_devices() -> None:
    """Loss, gradient and counts, where devices have few rows that take part, or none.

    Sums of 1,000 float32 numbers in another order: 2e-6. Counts are exact.
    """
    (output,) = finish(start("two_devices.py", devices=2))
    (found,) = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert len(found) == 4
    for case, errors in found.items():
        assert errors["loss_value"] > 0.5, case
        assert errors["gradient_value"] > 0.01, case
        for name in ("loss", "gradient_norm", "parameters"):
            assert errors[name] < 2e-6, (case, errors)
        assert errors["miscounted"] == 0, case
        counted = "seen_voxels" if case.startswith("esg") else "labelled_points"
        assert errors[counted] == 0, case


def test_terms_of_shards_are_the_same_in_every_spread() -> None:
    """Loss, gradient, counts and parameters after two steps: float32 sums in another order."""
    (output,) = finish(start("spreads.py", devices=8))
    (found,) = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert len(found) == 4
    by_size: dict[str, set[float]] = {}
    for case, spreads in found.items():
        alone = spreads.pop("one device")
        by_size.setdefault(case.partition(",")[0], set()).add(round(alone["loss"], 3))
        assert alone["loss"] > 0.5 < 10 * alone["gradient_norm"], case
        assert len(spreads) == 3
        for spread, errors in spreads.items():
            assert max(errors.values()) < 3e-6, (case, spread, errors)
    # What a term sees is another loss where there is more of it.
    assert {name: len(losses) for name, losses in by_size.items()} == {"Masks": 2, "Labels": 2}


def test_devices_take_turns_in_validation_and_find_the_same(tmp_path: Path) -> None:
    (output,) = finish(start("judging_devices.py", str(tmp_path), devices=3))
    (found,) = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert found["1"]["judged"] == [0, 0, 0, 0, 0]
    assert found["3"]["judged"] == [0, 1, 2, 0, 1]
    assert found["1"]["metrics"]["zero_shot_miou"] > 0
    assert found["3"]["metrics"] == found["1"]["metrics"]


def test_two_processes_are_one_process_with_two_devices(tmp_path: Path) -> None:
    finish(start("tiny_task.py", str(tmp_path / "one"), devices=2))
    address = ["--address", f"localhost:{free_port()}", "--processes", "2"]
    pair = [
        start("tiny_task.py", str(tmp_path / "two"), *address, "--process", str(i), devices=1)
        for i in range(2)
    ]
    outputs = finish(*pair)
    assert "4 sweeps a step on 2 cpu devices" in outputs[0]
    assert "sweeps" not in outputs[1]
    one, two = (read_arrays(tmp_path / name / "checkpoints" / "20") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, rtol=1e-6, atol=1e-7, err_msg=name)


def test_replicate_and_first_are_inverse() -> None:
    parallel = Parallel(jax.local_devices()[:1])
    tree = {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3), "b": np.int32(4)}
    placed = parallel.replicate(tree)
    assert placed["a"].shape == (1, 2, 3)
    back = parallel.first(placed)
    np.testing.assert_array_equal(back["a"], tree["a"])
    assert back["b"] == 4


def test_first_does_not_share_memory_with_the_device() -> None:
    parallel = Parallel(jax.local_devices()[:1])
    placed = parallel.replicate(np.ones(1000, np.float32))
    on_device = np.asarray(placed.addressable_shards[0].data)
    copy = parallel.first(placed)
    np.testing.assert_array_equal(copy, 1.0)
    assert not np.shares_memory(copy, on_device)


def test_spread_goes_on_from_its_own_state() -> None:
    parallel = Parallel(jax.local_devices()[:1])
    run = parallel.spread(lambda state, batch: (state + batch, jnp.sum(state)))
    placed = parallel.replicate(np.ones(1000, np.float32))
    for _ in range(3):
        placed, _ = run(placed, parallel.shard(np.ones((1, 1000), np.float32)))
    np.testing.assert_array_equal(parallel.first(placed), 4.0)


def test_batches_of_another_number_of_devices_are_refused() -> None:
    parallel = Parallel(jax.local_devices()[:1])
    with pytest.raises(ValueError, match=r"batch\['x'\] has shape \(3, 2\); .* the 1 devices"):
        parallel.shard({"x": np.zeros((3, 2))})


def test_too_many_devices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"--devices=99: .*device_count=99"):
        choose_devices(99)
