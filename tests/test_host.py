"""The compiled module without JAX: what reads datasets and dumps starts at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from uov_jax import host

LIGHT = "uov_jax.datasets.nuscenes, uov_jax.dumps.folder, uov_jax.superpoints.grouping"


def test_datasets_and_dumps_need_no_jax() -> None:
    program = f"import sys, {LIGHT}; uov_jax.host.engine(); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_missing_extension_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uov_jax._engine", None)
    host.engine.cache_clear()
    with pytest.raises(host.EngineMissingError, match=r"is not built .*run `pip install .`"):
        host.engine()
    monkeypatch.undo()
    assert host.engine().instruction_set()
