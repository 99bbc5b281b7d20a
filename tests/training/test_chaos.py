"""A run that is killed at any moment ends with the bits of one that never was.

`make chaos` does it 25 times over one training and prints where.
"""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.training.chaos import WAIT, Chaos, write_data
from tests.training.elastic import KEYFRAMES as KEYFRAMES_OF_AN_EPOCH
from tests.training.test_parallel import finish, start


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("chaos") / "data")


def assert_same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    different = [name for name, array in expected.items() if not np.array_equal(found[name], array)]
    assert not different, f"{len(different)} of {len(expected)} arrays differ, as {different[:3]}"


def test_three_kills(tmp_path: Path, data: Path) -> None:
    """Of one of two processes: `test_two_hosts.py`."""
    chaos = Chaos(tmp_path / "run", data, 20, 1, random.Random(1))
    chaos.kill_at_any_moment()
    chaos.kill_while_it_saves()
    chaos.kill_at_any_moment()
    assert chaos.in_saves >= 1
    undisturbed = Chaos(tmp_path / "undisturbed", data, 20, 1, random.Random(0)).finish()
    assert_same_bits(chaos.finish(), undisturbed)


@pytest.mark.parametrize("hosts", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_signal_to_all_processes_of_a_job_stops_it_at_once_and_is_saved(
    tmp_path: Path, data: Path, hosts: int
) -> None:
    """Worker processes get it too, as schedulers send it: they are not what it is meant for."""
    chaos = Chaos(tmp_path / "run", data, 500, hosts, random.Random(0))
    processes = chaos.launch(hosts, worker_processes=2)
    chaos.wait(lambda: chaos.steps() >= 3, processes[0])
    os.killpg(processes[-1].pid, signal.SIGTERM)
    outputs = [process.communicate(timeout=WAIT)[0] for process in processes]
    assert [process.returncode for process in processes] == [128 + signal.SIGTERM] * hosts, outputs
    assert "Stopped by SIGTERM" in outputs[0]
    assert "Not built any more" not in outputs[0]
    last = max(int(p.name) for p in (tmp_path / "run" / "checkpoints").iterdir() if p.is_dir())
    assert f"after step {last} of 500; saved as" in outputs[0]
    # Of two processes the signal came to the second; a step or two had been agreed on already.
    assert chaos.steps() - 1 <= last <= chaos.steps() + 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_twenty_five_kills(tmp_path: Path, data: Path, seed: int) -> None:
    """At random moments, at least five in a save, five of one of two processes; any workers."""
    chaos = Chaos(tmp_path / "run", data, 80, 2, random.Random(seed))
    kinds = [chaos.kill_at_any_moment] * 15
    kinds += [chaos.kill_while_it_saves] * 5 + [chaos.kill_one_of_two] * 5
    chaos.dice.shuffle(kinds)
    for kill in kinds:
        kill()
    found = chaos.finish()
    print("\n".join(chaos.log))
    assert len(chaos.log) - 1 >= 25
    assert chaos.in_saves >= 5
    undisturbed = Chaos(tmp_path / "undisturbed", data, 80, 2, random.Random(0)).finish()
    assert_same_bits(found, undisturbed)


@pytest.mark.slow
def test_devices_may_change(tmp_path: Path) -> None:
    """Eight, four and eight again: no sample twice or lost, and the same steps but for rounding."""
    (output,) = finish(start("elastic.py", str(tmp_path), devices=8))
    (found,) = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    epochs = np.array(found["samples"]).reshape(3, KEYFRAMES_OF_AN_EPOCH)
    assert all(sorted(epoch) == list(range(KEYFRAMES_OF_AN_EPOCH)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3
    for change in ("to_four", "to_eight"):
        # Sums in another order. No draw of these steps lies on the kink of a ReLU.
        for part in ("parameters", "statistics", "optimizer"):
            assert 0.0 <= found[change][part] < 1e-5, (change, found[change])
        assert found[change]["step"] == 0
