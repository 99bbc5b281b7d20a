"""Which errors end in a message and which show where they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uov_jax.checkpoints.run import CheckpointError
from uov_jax.datasets.nuscenes import read_sweep
from uov_jax.errors import message_for_user
from uov_jax.losses import soft_text_targets


def test_what_the_package_raises_is_for_the_user(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        read_sweep(tmp_path / "sweep.pcd.bin")
    assert message_for_user(missing.value) == str(missing.value)
    with pytest.raises(ValueError, match="is zero") as wrong:
        soft_text_targets(np.zeros((2, 3)), np.zeros(2, int))
    assert message_for_user(wrong.value) == str(wrong.value)
    assert message_for_user(CheckpointError("of another run")) == "of another run"


def test_a_bug_is_not() -> None:
    with pytest.raises(ValueError, match="here") as elsewhere:
        raise ValueError("raised here, outside the package")
    assert message_for_user(elsewhere.value) is None
    # numpy refuses this array in a line of the package that raises nothing itself.
    with pytest.raises(ValueError, match="could not convert") as of_numpy:
        soft_text_targets(np.array([["a"]]), np.zeros(1, int))
    assert message_for_user(of_numpy.value) is None
