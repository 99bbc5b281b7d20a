"""What the processes of a run compare before the first step."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from tests.training.tiny_task import tiny_config
from uov_jax.config import flat_fields, load_config
from uov_jax.training import agreement

ROOT = Path(__file__).parents[2]


def test_fields_that_may_differ_are_fields_of_recipes() -> None:
    recipes = [path for path in (ROOT / "configs").glob("*.py") if path.stem != "common"]
    known = {name for path in recipes for name, _ in flat_fields(load_config(str(path)))}
    # Of judging alone, which training recipes do not have.
    assert set(agreement.LOCAL_FIELDS) - known <= {"data.text", "data.label_table"}


def test_a_single_bit_of_the_weights_is_seen() -> None:
    state = {"kernel": np.ones((3, 2), np.float32), "step": np.int32(0)}
    before = agreement.fingerprint(state)
    assert agreement.fingerprint({name: np.array(array) for name, array in state.items()}) == before
    state["kernel"].view(np.uint8)[2, 5] ^= 1
    assert agreement.fingerprint(state) != before
    assert agreement.fingerprint({"kernel": state["kernel"].reshape(2, 3)}) != before


def test_the_recipe_is_compared_but_for_places(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    found = agreement.facts(config, {"teacher": "san"}, "word", 7, {}, jax.local_devices())
    assert found["config.optimizer.learning_rate"] == 0.1
    assert found["the data's teacher"] == "san"
    assert found["the step to begin at"] == 7
    assert found["the version of jax"] == jax.__version__
    assert "config.run.compilation_cache" not in found
    assert found["the program"] == agreement.source_hash()
