"""What a run takes of the machine: memory of its process and of its devices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import jax

STATUS = Path("/proc/self/statm")


def memory(devices: Sequence[jax.Device]) -> dict[str, float]:
    """GB (10**9 bytes) in use, as metrics: `memory_gb` of this process, `device_memory_gb`.

    The second is the most that any of the devices has had in use, where they say so. What the
    operating system does not tell is left out.
    """
    found = {}
    if STATUS.exists():
        pages = int(STATUS.read_text().split()[1])
        found["memory_gb"] = pages * os.sysconf("SC_PAGE_SIZE") / 1e9
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in devices]
    known = [peak for peak in peaks if peak is not None]
    if known:
        found["device_memory_gb"] = max(known) / 1e9
    return found
