"""One section of a GPU check, in a process of its own: what breaks in it breaks nothing else.

`scripts/gpu_check.py` starts it; its results are lines of JSON on standard output.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from uov_jax.command_line.gpu_report import Row


@dataclass(frozen=True)
class Sizes:
    """How large things are.

    Attributes:
        voxels: of the checks against float64.
        tiled: channels of convolutions that run with each tile.
        channels: of those that run with the tiles of the kernels' table.
        few: voxels of convolutions whose tiles are for few.
        clouds: voxels of what is timed.
        widths: channels of it.
        variant: of the network that trains.
        step_voxels: of the step beside the CPU's.
        batches: sweeps of the steps that are timed.
        most: voxels of a sweep there; None: all.
        dense: rows of a dense product.
        repeats: of what is timed.
        together: calls that are started before the last is waited for.

    """

    voxels: int
    tiled: tuple[tuple[int, int], ...]
    channels: tuple[tuple[int, int], ...]
    few: int
    clouds: tuple[int, ...]
    widths: tuple[int, ...]
    variant: str
    step_voxels: int
    batches: tuple[int, ...]
    most: int | None
    dense: int
    repeats: int
    together: int


CARD = Sizes(
    voxels=200_000,
    tiled=((32, 32), (64, 128)),
    channels=((32, 64), *((width, width) for width in (64, 96, 128, 160, 256))),
    few=3_000,
    clouds=(120_000, 900_000),
    widths=(32, 64, 96, 128, 256),
    variant="res16unet34c",
    step_voxels=20_000,
    batches=(1, 4, 16),
    most=None,
    dense=8192,
    repeats=7,
    together=10,
)
# As much as an emulation of every thread does within minutes.
EMULATED = Sizes(
    voxels=400,
    tiled=((32, 32), (64, 64)),
    channels=((64, 96),),
    few=100,
    clouds=(200, 300),
    widths=(32,),
    variant="minkunet14a",
    step_voxels=60,
    batches=(1,),
    most=150,
    dense=256,
    repeats=1,
    together=1,
)
# Odd numbers of channels, of which no row begins where several numbers are read at once.
ODD = ((1, 3), (3, 17), (17, 768))


def products(sizes: Sizes) -> Iterator[Row]:
    """Convolutions and their gradients."""
    from uov_jax.command_line import gpu_values

    yield from gpu_values.tiles(sizes.voxels, sizes.tiled, backend().module())
    yield from gpu_values.products(sizes.voxels, sizes.channels)
    yield from gpu_values.products(sizes.few, (sizes.tiled[0], *ODD))
    yield from gpu_values.other_maps(sizes.few, sizes.tiled[0])
    for channels in (96, 5):
        yield from gpu_values.epilogues(sizes.voxels, channels)
    yield from gpu_values.epilogues(sizes.few, 96)


def rows(sizes: Sizes) -> Iterator[Row]:
    """Voxels, plans, moves of rows and norms."""
    import jax.numpy as jnp

    from uov_jax.command_line import gpu_values, gpu_voxels

    yield from gpu_voxels.voxels(sizes.voxels)
    yield from gpu_values.plans(sizes.voxels)
    yield from gpu_values.dilated_maps(sizes.voxels)
    for channels in (96, 5):
        for dtype in (jnp.float32, jnp.bfloat16):
            yield from gpu_values.row_ops(sizes.voxels, channels, dtype)


def exercise(sizes: Sizes) -> Iterator[Row]:
    """Every op once, small: a sanitizer watches."""
    import jax.numpy as jnp

    from uov_jax.command_line import gpu_values, gpu_voxels

    del sizes
    yield from gpu_voxels.voxels(600)
    yield from gpu_values.tiles(600, ((64, 64),), backend().module())
    yield from gpu_values.products(600, ((3, 17),))
    yield from gpu_values.other_maps(600, (3, 17))
    yield from gpu_values.epilogues(600, 33)
    yield from gpu_values.plans(600)
    yield from gpu_values.dilated_maps(600)
    for dtype in (jnp.float32, jnp.bfloat16):
        yield from gpu_values.row_ops(600, 33, dtype)


def step(sizes: Sizes) -> Iterator[Row]:
    """A training step beside the CPU's."""
    from uov_jax.command_line import gpu_network, gpu_sweeps

    coords = gpu_sweeps.cloud_of(sizes.step_voxels)
    yield from gpu_network.against_cpu(sizes.variant, coords, steps=3)


def ceilings(sizes: Sizes) -> Iterator[Row]:
    """What the card gives at most."""
    from uov_jax.command_line import gpu_speed

    yield from gpu_speed.ceilings(sizes.dense, sizes.repeats)


def ops(sizes: Sizes) -> Iterator[Row]:
    """Times of voxels, plans and layers."""
    from uov_jax.command_line import gpu_speed, gpu_voxels

    yield from gpu_voxels.times(sizes.clouds, sizes.repeats)
    yield from gpu_speed.op_times(sizes.clouds, sizes.widths, sizes.repeats, sizes.together)


def network(sizes: Sizes) -> Iterator[Row]:
    """Times of training steps."""
    from uov_jax.command_line import gpu_network

    yield from gpu_network.step_times(sizes.variant, sizes.batches, sizes.most, sizes.repeats)


SECTIONS: dict[str, Callable[[Sizes], Iterator[Row]]] = {
    each.__name__: each for each in (products, rows, exercise, step, ceilings, ops, network)
}


def emulation() -> ModuleType:
    """What builds the kernels for this CPU, if need be: a test tool, which a checkout has."""
    return importlib.import_module("tests.cuda.emulation")


def backend() -> Any:
    """The functions of the backend in force, a `Cuda`: the GPU's or of its emulation."""
    from uov_jax.sparse.backends import chosen_backend, default_platform, forced_backend

    _, functions = chosen_backend(default_platform(), forced_backend())
    return functions[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a section; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("section", choices=[*SECTIONS, "emulate"])
    parser.add_argument("--emulate", action="store_true")
    options = parser.parse_args(arguments)
    if options.section == "emulate":
        emulation().engine()
        return 0
    from uov_jax import sparse

    name = emulation().register() if options.emulate else "cuda"
    sizes = EMULATED if options.emulate else CARD
    with sparse.use_backend(name):
        sparse.raise_fault()  # makes the memory that kernels report to, before XLA records any
        for row in SECTIONS[options.section](sizes):
            print(row.line(), flush=True)
        sparse.raise_fault()
    return 0


if __name__ == "__main__":
    sys.exit(main())
