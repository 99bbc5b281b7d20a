"""Whether there is room for the batches that worker processes hand over in shared memory."""

from __future__ import annotations

import math
import mmap
import os
from pathlib import Path

import jax
import numpy as np

from uov_jax.errors import InputError
from uov_jax.input.batching import Batch
from uov_jax.readable import readable_bytes

# Where Linux keeps it. Elsewhere it is no file system, and is as large as the memory.
FOLDER = Path("/dev/shm")

# Batches that lie in it at once: of every worker one in its hands and one in its queue, then one in
# the queue of the thread that empties it and one in that thread's hands; of the training loop that
# of the step that runs and the next one. Queues as `loader.py` sets them, one batch long.
BATCHES_PER_WORKER, BATCHES_OF_LOOP = 4, 2


def bytes_in_shared_memory(batch: Batch) -> int:
    """What a batch takes there: every array is a file of whole pages."""
    pages = (math.ceil(np.asarray(leaf).nbytes / mmap.PAGESIZE) for leaf in jax.tree.leaves(batch))
    return mmap.PAGESIZE * sum(pages)


def check_room(largest: Batch, workers: int) -> None:
    """Refuse to start worker processes that might fill the shared memory.

    What is written there past its end kills the writer with a bus error, after any number of steps.

    Args:
        largest: a batch of the largest size that occurs.
        workers: how many processes build batches.

    Raises:
        InputError: less is free than all the batches that may lie there at once need.

    """
    try:
        state = os.statvfs(FOLDER)
    except OSError:
        return
    free = state.f_bavail * state.f_frsize
    one = bytes_in_shared_memory(largest)
    need = one * (BATCHES_PER_WORKER * workers + BATCHES_OF_LOOP)
    if free < need:
        gibibytes = math.ceil((need + state.f_blocks * state.f_frsize - free) / 2**30)
        raise InputError(
            f"{FOLDER} is too small for the batches of {workers} worker processes: "
            f"{readable_bytes(free)} free, {readable_bytes(need)} needed ({BATCHES_PER_WORKER} "
            f"batches a worker and {BATCHES_OF_LOOP} in use, of {readable_bytes(one)} at most). "
            "Use threads with --config.data.worker_processes=0, or fewer workers with "
            "--config.data.workers=N; or make it larger, in Docker with "
            f"`docker run --shm-size={gibibytes}g`"
        )
