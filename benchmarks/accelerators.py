"""Peak figures of accelerators, from their makers' documents, and what is the least time by them.

A100 80GB SXM: NVIDIA's data sheet "A100 Tensor Core GPU" (2021). H100 SXM: NVIDIA's data sheet
"H100 Tensor Core GPU" (2022), whose figures with sparsity are halved. TPU v5e: Google Cloud's
documentation, "TPU v5e". Multiprocessors: NVIDIA's white papers on both architectures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.work import Task

FLOAT32, TF32, BFLOAT16 = "float32", "TF32", "bfloat16"
WIDTH = {FLOAT32: 4, TF32: 4, BFLOAT16: 2}
"""Bytes of a number in memory."""


@dataclass(frozen=True)
class Accelerator:
    """Peak figures: bytes a second from its memory, operations a second by format.

    multiprocessors: 0 where there are none.
    """

    name: str
    bandwidth: float
    peak: dict[str, float]
    multiprocessors: int

    def seconds(self, operations: float, moved: float, numbers: str) -> float:
        """The longer of multiplying and moving."""
        return max(operations / self.peak[numbers], moved / self.bandwidth)


ACCELERATORS = (
    Accelerator("A100", 2.039e12, {FLOAT32: 19.5e12, TF32: 156e12, BFLOAT16: 312e12}, 108),
    Accelerator("H100", 3.35e12, {FLOAT32: 67e12, TF32: 494.5e12, BFLOAT16: 989.5e12}, 132),
    # Its matrix units take bfloat16: float32 is six products of parts, `lax.Precision.HIGH` three.
    Accelerator("v5e", 0.819e12, {FLOAT32: 197e12 / 6, TF32: 197e12 / 3, BFLOAT16: 197e12}, 0),
)
GPUS = tuple(a for a in ACCELERATORS if a.multiprocessors)


def least(group: Iterable[Task], machine: Accelerator, numbers: str) -> float:
    """Seconds of ops one after the other."""
    return sum(machine.seconds(t.operations, t.bytes, numbers) for t in group)
