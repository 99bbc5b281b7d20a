"""The `cpu` backend: C++ through `jax.ffi` (`csrc/ffi`), on XLA's own threads.

Bad entries of maps and indices, and bad coordinates, end the program with an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from uov_jax.sparse import signatures
from uov_jax.sparse.engine import engine
from uov_jax.sparse.handlers import Handlers
from uov_jax.sparse.rows import identity_rows


def call(op: str, results: Any, *operands: Any, **attributes: bool | int) -> Any:
    """The result or results of a compiled op: one of those in `csrc/ffi/handlers.h`.

    Args:
        op: its name there.
        results: shapes and dtypes, as `jax.ffi.ffi_call` takes them.
        operands: what the handler binds as arguments.
        attributes: what it binds as attributes.

    Raises:
        EngineMissingError: the extension is not built.

    """
    engine()  # registers the handlers
    return jax.ffi.ffi_call(f"uov_{op}", results, vmap_method="sequential")(*operands, **attributes)


def pool_threads() -> int:
    """How many threads the compiled ops of one device share.

    Raises:
        EngineMissingError: the extension is not built.

    """
    return int(call("pool_threads", jax.ShapeDtypeStruct((), jnp.int32)))


class Cpu(Handlers):
    """The backend's functions."""

    def call(
        self,
        op: str,
        results: Any,
        *operands: Any,
        workspace: Sequence[int] = (),
        **attributes: Any,
    ) -> Any:
        """Kernels of a CPU take their own memory."""
        del workspace
        return call(op, results, *operands, **attributes)

    def gather_gemm(
        self,
        x: Any,
        w: Any,
        forward: Any,
        schedule: Any,
        *,
        transposed: bool,
        mirrored: bool,
        precision: str,
    ) -> Any:
        """See `signatures`; and so of all that follow. Factors are rounded for no precision."""
        results = signatures.gather_gemm(
            x, w, forward, schedule, transposed=transposed, mirrored=mirrored, precision=precision
        )
        operands = (x, w, forward)
        return self.call(
            "gather_gemm", results, *operands, transposed=transposed, mirrored=mirrored
        )

    def gather_gemm_dw(
        self, x: Any, dy: Any, forward: Any, schedule: Any, *, precision: str
    ) -> Any:
        """See `signatures`."""
        results = signatures.gather_gemm_dw(x, dy, forward, schedule, precision=precision)
        return self.call("gather_gemm_dw", results, x, dy, forward)

    def gather_gemm_gradients(
        self,
        x: Any,
        w: Any,
        dy: Any,
        forward: Any,
        schedule: Any,
        back: Any,
        back_schedule: Any,
        *,
        mirrored: bool,
        precision: str,
    ) -> Any:
        """In one pass over the pairs of a mirrored map."""
        del schedule, back_schedule, precision
        results = [
            jax.ShapeDtypeStruct(x.shape, x.dtype),
            jax.ShapeDtypeStruct(w.shape, jnp.float32),
        ]
        return self.call(
            "gather_gemm_gradients", results, x, w, dy, forward, back, mirrored=mirrored
        )

    def gather_gemm_moments(
        self, x: Any, w: Any, forward: Any, schedule: Any, count: Any, *, precision: str
    ) -> Any:
        """While the result's rows are in cache."""
        results = signatures.gather_gemm_moments(
            x, w, forward, schedule, count, precision=precision
        )
        return self.call("gather_gemm_moments", results, x, w, forward, count)

    def gather_gemm_affine(
        self, x: Any, w: Any, forward: Any, schedule: Any, *norm: Any, relu: bool, precision: str
    ) -> Any:
        """While the sums are in cache; they are rounded once."""
        result = signatures.gather_gemm_affine(
            x, w, forward, schedule, *norm, relu=relu, precision=precision
        )
        *parameters, shortcut, count = norm
        given = shortcut is not None
        operands = (x, w, forward, *parameters, shortcut if given else x, count)
        return self.call("gather_gemm_affine", result, *operands, has_shortcut=given, relu=relu)

    def multiply_rows_gradients(
        self, x: Any, w: Any, dy: Any, count: Any, *, precision: str
    ) -> Any:
        """A convolution of size 1."""
        rows = identity_rows(x.shape[0], count)
        dx, dw = self.gather_gemm_gradients(
            x, w[None], dy, rows, None, rows, None, mirrored=True, precision=precision
        )
        return dx, dw[0]

    def moving_average(
        self, old: Any, sample: Any, decay: Any, weight: Any, *, squares: bool
    ) -> Any:
        """In the memory of the old one.

        XLA would work the average out anew for each of its uses, and to do so would copy an old
        state whose memory the new one takes.
        """
        result = jax.ShapeDtypeStruct(old.shape, old.dtype)
        in_place = jax.ffi.ffi_call("uov_moving_average", result, input_output_aliases={0: 0})
        return in_place(old, sample, decay, weight, squares=squares)


CPU = Cpu()
