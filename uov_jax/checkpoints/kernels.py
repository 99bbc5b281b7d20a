"""Which of the engine's kernels a run goes on with: their sums differ in the last bits."""

from __future__ import annotations

from uov_jax import sparse
from uov_jax.sparse import kernels


def go_on_with(recorded: str | None) -> str | None:
    """Let the ops run the kernels that a checkpoint was computed with, where that can be.

    A run shall end with the same bits as if it had not been stopped, as far as the processor's
    model allows (XLA compiles for it), and go on wherever it is brought: where these kernels are
    missing, with those that are there. What the environment asks for comes before both.

    Args:
        recorded: as `sparse.current_kernels` named them; None: an older checkpoint does not say.

    Returns:
        What a user should know, None where all is as it was.

    """
    current = sparse.current_kernels()
    if recorded is None or recorded == current:
        return None
    differs = "it will not end with the same bits as if it had not been stopped"
    if kernels.same_float32(recorded, current):
        differs += ", unless it computes in float32 alone"
    if kernels.asked_for() is not None:
        return (
            f"The checkpoint was computed with {recorded} kernels; {kernels.VARIABLE} asks for "
            f"{current}: {differs}."
        )
    if sparse.use_kernels(recorded):
        return (
            f"It keeps to the {recorded} kernels of its checkpoint, for the same bits. A new run "
            f"would take {current} here: {kernels.VARIABLE}={current} before the command does so, "
            f"but then {differs}."
        )
    return (
        f"The checkpoint was computed with {recorded} kernels, which cannot run here. It goes on "
        f"with {current}: {differs}."
    )
