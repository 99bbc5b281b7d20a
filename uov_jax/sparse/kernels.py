"""Which inner kernels the compiled ops run: those that are fast on the processor, not the widest.

An instruction that is there need not be fast: on some processors AVX512-BF16, which multiplies
bfloat16 numbers, takes longer than widening them and multiplying float32. It is used on models
where that was measured to pay; `python -m benchmarks kernels` measures it.
"""

from __future__ import annotations

import os
from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

# From the plainest on. Float32 rows have the same kernels in the last two.
NAMES = ("generic", "avx2", "avx512", "avx512_bf16")
# The environment's choice, by name.
VARIABLE = "UOV_INSTRUCTION_SET"


class KernelsError(RuntimeError):
    """The kernels that the environment asks for cannot run here; names those that can."""


class Processor(NamedTuple):
    """A model of processors, by the numbers of the `cpuid` instruction; zeros on others than x86.

    vendor: such as "GenuineIntel".
    """

    vendor: str
    family: int
    model: int


class Verdict(NamedTuple):
    """What the AVX512-BF16 of some models of processors is worth.

    models: of the family. fast: its kernels are used. known: from what.
    """

    vendor: str
    family: int
    models: Container[int]
    name: str
    fast: bool
    known: str


_MEASURED = "measured: layers took 0.53 to 0.75 of the time of float32"
_NOT_MEASURED = "not measured: the safe choice"
_SLOW_ON_A_XEON = (
    "not measured on this model: the safe choice, since it was reported slow on one Xeon"
)
# Every model that has it is in the table or gets the last row's answer.
TABLE = (
    Verdict("AuthenticAMD", 26, (2,), "EPYC 9005 (Zen 5)", True, _MEASURED),
    Verdict("AuthenticAMD", 26, range(256), "other Zen 5", False, _NOT_MEASURED),
    Verdict("AuthenticAMD", 25, range(256), "Zen 4", False, _NOT_MEASURED),
    Verdict("GenuineIntel", 6, (85,), "Xeon, Cooper Lake", False, _SLOW_ON_A_XEON),
    Verdict("GenuineIntel", 6, (143,), "Xeon, Sapphire Rapids", False, _SLOW_ON_A_XEON),
    Verdict("GenuineIntel", 6, (207,), "Xeon, Emerald Rapids", False, _SLOW_ON_A_XEON),
    Verdict("GenuineIntel", 6, (173, 174), "Xeon, Granite Rapids", False, _SLOW_ON_A_XEON),
)
UNKNOWN = Verdict("", 0, (), "any other", False, _NOT_MEASURED)


def verdict(processor: Processor) -> Verdict:
    """The first row of the table that speaks of a processor; `UNKNOWN` without one."""
    for row in TABLE:
        if processor[:2] == (row.vendor, row.family) and processor.model in row.models:
            return row
    return UNKNOWN


def fastest(processor: Processor, runnable: Sequence[str]) -> str:
    """The kernels that are fast on a processor, of those that can run there."""
    good = [name for name in NAMES if name != NAMES[-1] or verdict(processor).fast]
    return next(name for name in reversed(good) if name in runnable)


def asked_for(environment: Mapping[str, str] = os.environ) -> str | None:
    """The kernels that the environment names; None where it leaves the choice."""
    return environment.get(VARIABLE) or None


def chosen(
    processor: Processor,
    runnable: Sequence[str],
    left_out: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> str:
    """The kernels that a process begins with: those asked for, else the fastest.

    Args:
        processor: decides what is fast.
        runnable: names of those that can run.
        left_out: names of those that the compiler of this build could not make.
        environment: may ask for some.

    Raises:
        KernelsError: those asked for cannot run.

    """
    wish = asked_for(environment)
    if wish is None:
        return fastest(processor, runnable)
    if wish not in runnable:
        missing = f"; not in this build: {', '.join(left_out)}" if left_out else ""
        raise KernelsError(
            f"{VARIABLE}={wish}: expected {', '.join(NAMES[:-1])} or {NAMES[-1]}, as far as this "
            f"processor and build can run it: here {', '.join(runnable)}{missing}"
        )
    return wish


def same_float32(one: str, other: str) -> bool:
    """Whether two kinds of kernels give float32 rows the same bits."""
    return one == other or {one, other} == set(NAMES[-2:])
