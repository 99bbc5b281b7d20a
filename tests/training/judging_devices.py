"""Validation on one device and on all of a process: prints metrics and which devices judged."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jax

from tests.tasks.test_tri_modal import tiny_config
from tests.training.chaos import write_data
from uov_jax.checkpoints import state
from uov_jax.evaluation.share import Share
from uov_jax.tasks.build import build_task
from uov_jax.training.parallel import Parallel
from uov_jax.training.step import initial_model

KEYFRAMES = 5


def main() -> None:
    """Judge the tiny dataset twice."""
    folder = Path(sys.argv[1])
    config = tiny_config(write_data(folder / "data", KEYFRAMES), folder / "compiled")
    config.run.picture_keyframes = 0
    task: Any = build_task(config)
    skeleton, parameters, statistics = state.split(initial_model(task, 0))
    found: dict[str, Any] = {}
    for number in (1, len(jax.local_devices())):
        parallel = Parallel(jax.local_devices()[:number])
        placed = parallel.replicate(state.TrainState(0, parameters, statistics, {}))
        predict = parallel.in_turn(state.prediction(skeleton))
        judged: list[int] = []

        def on_device(
            inputs: Any, predict: Any = predict, placed: Any = placed, judged: Any = judged
        ) -> jax.Array:
            output = predict(placed, inputs)
            judged.extend(device.id for device in output.devices())
            return output

        metrics = task.evaluate(on_device, folder, number, Share(at_once=number))
        found[str(number)] = {"metrics": metrics, "judged": judged}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
