"""Rows of results as Markdown and JSON."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.timing import Timing, ratio
from uov_jax import processors, sparse
from uov_jax.host import EngineMissingError
from uov_jax.sparse.engine import engine

# Whose versions decide about speed, ours and the alternatives'.
LIBRARIES = ("jax", "jaxlib", "numpy", "torch", "spconv", "MinkowskiEngine", "torchsparse")
# Our calls among the timings; the others are what they are held against.
OURS = "uov_jax"


@dataclass(frozen=True)
class Row:
    """One measured thing beside what it is held against.

    `rate` is in `unit`; `against` has the ratio of ours to each named alternative of the same run,
    above 1 where ours is faster. A row without milliseconds is about memory: `rate` is the amount,
    `against` how many times what is named it is.
    """

    what: str
    milliseconds: float | None
    spread: float
    rate: float | None = None
    unit: str = ""
    against: dict[str, float] = field(default_factory=dict)


def compared(
    what: str, timings: Mapping[str, Timing], work: float | None = None, unit: str = ""
) -> Row:
    """The row of our timing beside the others; `work` over its median is the rate, in `unit`."""
    ours = timings[OURS]
    against = {name: ratio(ours, other) for name, other in timings.items() if name != OURS}
    rate = None if work is None else work / ours.median
    return Row(what, ours.median * 1e3, ours.spread, rate, unit, against)


def machine() -> dict[str, str]:
    """What the numbers were measured on."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return {
        "processor": f"{name}{_numbers()}",
        "cores": str(processors.available()),
        "backend": f"{sparse.current_backend()}, {sparse.backends()['cpu']}",
        "python": platform.python_version(),
    } | {name: version for name in LIBRARIES if (version := _version(name))}


def _numbers() -> str:
    """By which `uov_jax.sparse.kernels.TABLE` knows the processor."""
    try:
        vendor, family, model = engine().processor()
    except EngineMissingError:
        return ""
    return f" ({vendor}, family {family}, model {model})" if vendor else ""


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def markdown(rows: Sequence[Row]) -> str:
    """A table; under `x name` stands how many times faster ours is than that alternative."""
    names = list(dict.fromkeys(name for row in rows for name in row.against))
    lines = [
        "| | ms | spread | rate | " + " | ".join(f"x {name}" for name in names) + " |",
        "|---|---|---|---|" + "---|" * len(names),
    ]
    for row in rows:
        rate = f"{row.rate:.4g} {row.unit}" if row.rate is not None else ""
        ratios = [f"{row.against[name]:.2f}" if name in row.against else "" for name in names]
        time = ("", "")
        if row.milliseconds is not None:
            time = (f"{row.milliseconds:.3g}", f"{row.spread:.0%}")
        cells = [row.what, *time, rate, *ratios]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of cells."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write(path: Path, rows: Sequence[Row]) -> None:
    """JSON: the machine, and every row."""
    content = {"machine": machine(), "rows": [asdict(row) for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
