"""Latency of the first step and memory of a training step of Res16UNet34C.

    python -m benchmarks.first_step CACHE

traces and compiles the step with the compilation cache in the folder CACHE and prints both times in
seconds; the suite runs it twice, in processes of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import sweeps
from benchmarks.network import Own, made_up
from benchmarks.report import Row
from benchmarks.sweeps import VoxelSweep
from uov_jax import compilation
from uov_jax.models.minkunet import STAGES, STEM_CHANNELS, VARIANTS
from uov_jax.sparse import PlanSpec


def first_step(sweep: VoxelSweep, repeats: int) -> Iterator[Row]:
    """Compilation without and with the cache, and the memory that the program takes.

    Compilation is of one synthetic sweep, whatever the sweep: it hardly depends on shapes.
    """
    del repeats  # Each is a process of its own, once.
    with tempfile.TemporaryDirectory() as cache:
        for what in ("cold", "from the cache"):
            traced, compiled = _in_a_process(cache)
            yield Row(f"training step compiled, {what}", compiled * 1e3, 0.0)
    yield Row("training step traced", traced * 1e3, 0.0)
    own = Own(sweep.coords, *made_up(sweep.coords))
    taken, needed = step_bytes(own), activation_bytes(own.spec)
    share = {"the activations": taken / needed}
    yield Row("memory of a training step", None, 0.0, taken / 2**20, "MiB", share)


def step_bytes(own: Own) -> int:
    """What a training step holds beside its state and batch, in bytes, as the compiler says."""
    analysis = own.lowered_step().compile().memory_analysis()
    # The new state too, unless it stands in the memory of the old one.
    results = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return int(analysis.temp_size_in_bytes + results)


def activation_bytes(spec: PlanSpec, variant: str = "res16unet34c") -> int:
    """What the backward pass of a network needs of its forward pass, in bytes of float32.

    The result of every convolution (for the norm after it), of every norm with its ReLU (for the
    convolution after it), and the joined rows of the decoder. The norm of a projected shortcut
    needs its input alone.
    """
    shape = VARIANTS[variant]
    rows = spec.capacities
    width, skips = STEM_CHANNELS, [STEM_CHANNELS]
    numbers = 2 * rows[0] * width
    for stage, (planes, blocks) in enumerate(zip(shape.planes, shape.blocks, strict=True)):
        down = stage < STAGES
        level = stage + 1 if down else 2 * STAGES - 1 - stage
        joined = width if down else planes + skips[level]
        numbers += rows[level] * 2 * (width if down else planes)
        numbers += 0 if down else rows[level] * joined
        numbers += rows[level] * planes * (4 * blocks + (joined != planes))
        width = planes
        skips.append(width)
    return 4 * numbers


def _in_a_process(cache: str) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-m", __name__, cache],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the step could not be compiled:\n{done.stderr}")
    traced, compiled = json.loads(done.stdout.splitlines()[-1])
    return traced, compiled


def main(cache: str) -> None:
    """Compile the step and print the seconds of tracing and of compiling."""
    compilation.use_cache(cache)
    coords = sweeps.synthetic().coords
    own = Own(coords, *made_up(coords))
    start = time.perf_counter()
    lowered = own.lowered_step()
    traced = time.perf_counter()
    lowered.compile()
    print(json.dumps([traced - start, time.perf_counter() - traced]))


if __name__ == "__main__":
    main(*sys.argv[1:])
