"""The `cuda` backend: CUDA kernels through `jax.ffi` (`csrc/cuda`).

Nothing can be raised from a GPU: bad entries of maps and indices count as absent, plans of bad
coordinates fit no capacity, and the first of them is kept as a *fault* (`csrc/cuda/fault.h`), which
`Cuda.fault` tells.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from uov_jax.sparse import signatures
from uov_jax.sparse.engine import AVAILABLE
from uov_jax.sparse.rows import identity_rows

# Where setup.py leaves a line when it builds no extension.
WHY_NOT_BUILT = Path(__file__).parents[1] / "_engine_cuda.txt"
# By FaultKind, in the words of the CPU's ops.
_FAULTS = {
    1: "a map entry is {a}, but the input has {b} rows",
    2: "an index is {a}, but there are {b} rows",
    3: "the coordinate in row {a} is out of range",
    4: "the coordinate in row {a} is not a multiple of the tensor stride {b}",
    5: "duplicate coordinate in rows {a} and {b}",
    6: "point {a} is not finite, or falls outside the coordinate range",
    7: "count is {a}, expected 0 to {b}",
}
_PRECISION = {"float32": 0, "tf32": 1, "bfloat16": 2}


class Cuda:
    """The backend over a module of handlers: that of the GPU, or its emulation in tests."""

    # A sweep's plan is 5 MB, its coordinates a few hundred KB, and the GPU has the time.
    DEFERS_PLANS = True

    def __init__(self, load: Callable[[], ModuleType], platform: str) -> None:
        """Load nothing yet.

        Args:
            load: imports the module; ImportError where it is not built.
            platform: of the handlers.

        """
        self._load = functools.cache(load)
        self._platform = platform
        self._registered = False

    def module(self) -> ModuleType:
        """The module, its handlers registered.

        Raises:
            ImportError: it is not built.

        """
        module = self._load()
        if not self._registered:
            for name, handler in module.handlers().items():
                jax.ffi.register_ffi_target(name, handler, platform=self._platform)
            self._registered = True
            if self._platform == "CUDA" and jax.default_backend() == "gpu":
                # Memory for faults is made when it is first asked for: not while XLA records.
                for device in jax.local_devices():
                    module.fault(device.local_hardware_id or 0)
        return module

    def status(self) -> str:
        """Whether the module is there and what it was built for, or why it is not."""
        try:
            return f"{AVAILABLE} (built for {self.module().built_for()})"
        except ImportError as error:
            reason = WHY_NOT_BUILT.read_text().strip() if WHY_NOT_BUILT.is_file() else str(error)
            return (
                f"the extension uov_jax._engine_cuda is not built ({reason}): "
                "run `UOV_CUDA=1 pip install .` where nvcc is"
            )

    def _call(
        self,
        op: str,
        results: Any,
        *operands: Any,
        workspace: Sequence[int] = (),
        **attributes: Any,
    ) -> Any:
        """The results of a handler; `workspace`: what the size of its workspace depends on."""
        results = results if isinstance(results, list) else [results]
        expected = list(results)
        if workspace:
            size = self.module().workspace_bytes(op, list(workspace))
            expected.append(jax.ShapeDtypeStruct((size,), jnp.uint8))
        call = jax.ffi.ffi_call(f"uov_cuda_{op}", expected, vmap_method="sequential")
        return call(*operands, **attributes)[: len(results)]

    def fault(self) -> str | None:
        """What kernels found wrong first since this was asked last, on any device of this process.

        Ask when results have arrived: kernels that still run are not waited for.
        """
        module = self.module()
        first = None
        for device in jax.local_devices():
            kind, a, b, _ = module.fault(device.local_hardware_id or 0)
            if kind:
                first = first or _FAULTS[kind].format(a=a, b=b)
                module.clear_fault(device.local_hardware_id or 0)
        return first

    @staticmethod
    def schedule_shapes(shape: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
        """Of the order of rows, masks of each 32, pairs by offset and their numbers."""
        offsets, rows = shape
        return (rows,), (-(-rows // 32), -(-offsets // 32)), shape, (offsets,)

    def schedule(self, forward: Any, *, backend: str, shapes: Any) -> Any:
        """Rows ordered by their neighbours, and pairs by offset: see `csrc/cuda/schedule.h`."""
        results = signatures.schedule(forward, backend=backend, shapes=shapes)
        return self._call("schedule", results, forward, workspace=forward.shape)

    def _scheduled(self, forward: Any, schedule: Any) -> Any:
        if schedule is not None:
            return schedule
        return self.schedule(forward, backend="", shapes=self.schedule_shapes(forward.shape))

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
        """See `signatures`; and so of all that follow."""
        y = signatures.gather_gemm(
            x, w, forward, schedule, transposed=transposed, mirrored=mirrored, precision=precision
        )
        order, masks, _, _ = self._scheduled(forward, schedule)
        how = _PRECISION[precision]
        channels_out, rows = y.shape[1], y.shape[0]
        return self._call(
            "gather_gemm",
            y,
            x,
            w,
            forward,
            order,
            masks,
            workspace=(w.shape[0], x.shape[1], channels_out, rows, x.dtype.itemsize, how),
            transposed=transposed,
            mirrored=mirrored,
            precision=how,
        )[0]

    def gather_gemm_dw(
        self, x: Any, dy: Any, forward: Any, schedule: Any, *, precision: str
    ) -> Any:
        """See `signatures`."""
        dw = signatures.gather_gemm_dw(x, dy, forward, schedule, precision=precision)
        _, _, pair_rows, pair_counts = self._scheduled(forward, schedule)
        how = _PRECISION[precision]
        return self._call(
            "gather_gemm_dw",
            dw,
            x,
            dy,
            forward,
            pair_rows,
            pair_counts,
            workspace=(*dw.shape, dy.shape[0], x.dtype.itemsize, how),
            precision=how,
        )[0]

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
        """One after the other, of one schedule."""
        schedule = self._scheduled(forward, schedule)
        dx = self.gather_gemm(
            dy,
            w,
            back,
            schedule if mirrored else back_schedule,
            transposed=True,
            mirrored=mirrored,
            precision=precision,
        )
        return dx, self.gather_gemm_dw(x, dy, forward, schedule, precision=precision)

    def multiply_rows(self, x: Any, w: Any, count: Any, *, transposed: bool, precision: str) -> Any:
        """A convolution of size 1."""
        rows, schedule = _identity(x.shape[0], count)
        return self.gather_gemm(
            x,
            w[None],
            rows,
            schedule,
            transposed=transposed,
            mirrored=False,
            precision=precision,
        )

    def multiply_rows_dw(self, x: Any, dy: Any, count: Any, *, precision: str) -> Any:
        """A convolution of size 1."""
        rows, schedule = _identity(x.shape[0], count)
        return self.gather_gemm_dw(x, dy, rows, schedule, precision=precision)[0]

    def gather_rows(self, x: Any, index: Any) -> Any:
        """See `signatures`."""
        return self._call("gather_rows", signatures.gather_rows(x, index), x, index)[0]

    def gather_scatter_rows(self, x: Any, source: Any, target: Any, *, num_rows: int) -> Any:
        """See `signatures`."""
        y = signatures.gather_scatter_rows(x, source, target, num_rows=num_rows)
        rows = target if source is None else source
        sizes = (target.shape[0], num_rows, x.shape[1])
        operands = (x, rows, target)
        identity = source is None
        return self._call("gather_scatter_rows", y, *operands, workspace=sizes, identity=identity)[
            0
        ]

    def unit_rows(self, x: Any, count: Any) -> Any:
        """See `signatures`."""
        return self._call("unit_rows", signatures.unit_rows(x, count), x, count)

    def unit_rows_gradient(self, dy: Any, y: Any, inverse: Any, count: Any) -> Any:
        """See `signatures`."""
        dx = signatures.unit_rows_gradient(dy, y, inverse, count)
        return self._call("unit_rows_gradient", dx, dy, y, inverse, count)[0]

    def column_moments(self, x: Any, count: Any) -> Any:
        """See `signatures`."""
        results = signatures.column_moments(x, count)
        return self._call("column_moments", results, x, count, workspace=x.shape)

    def affine_rows(
        self, x: Any, mean: Any, scale: Any, bias: Any, shortcut: Any, count: Any, *, relu: bool
    ) -> Any:
        """See `signatures`."""
        y = jax.ShapeDtypeStruct(x.shape, x.dtype)
        operands = (x, mean, scale, bias, x if shortcut is None else shortcut, count)
        given = shortcut is not None
        return self._call("affine_rows", y, *operands, has_shortcut=given, relu=relu)[0]

    def affine_gradient_sums(self, dy: Any, y: Any, x: Any, mean: Any, count: Any) -> Any:
        """See `signatures`."""
        results = signatures.affine_gradient_sums(dy, y, x, mean, count)
        operands = (dy, dy if y is None else y, x, mean, count)
        relu = y is not None
        return self._call("affine_gradient_sums", results, *operands, workspace=x.shape, relu=relu)

    def affine_gradient_rows(
        self,
        dy: Any,
        y: Any,
        x: Any,
        mean: Any,
        offset: Any,
        slope: Any,
        scale: Any,
        count: Any,
        *,
        has_shortcut: bool,
    ) -> Any:
        """See `signatures`."""
        rows = jax.ShapeDtypeStruct(x.shape, x.dtype)
        # A result cannot be left out of a call: one that nobody wants has no rows.
        unwanted = jax.ShapeDtypeStruct((0, x.shape[1]), x.dtype)
        operands = (dy, dy if y is None else y, x, mean, offset, slope, scale, count)
        results = [rows, rows if has_shortcut else unwanted]
        relu = y is not None
        found = self._call(
            "affine_gradient_rows", results, *operands, relu=relu, has_shortcut=has_shortcut
        )
        return found if has_shortcut else found[:1]

    def submanifold_map(
        self, coords: Any, count: Any, *, kernel: int, tensor_stride: int, dilation: int
    ) -> Any:
        """See `signatures`."""
        found = signatures.submanifold_map(
            coords, count, kernel=kernel, tensor_stride=tensor_stride, dilation=dilation
        )
        return self._call(
            "submanifold_map",
            found,
            coords,
            count,
            workspace=(coords.shape[0], kernel),
            kernel=kernel,
            tensor_stride=tensor_stride,
            dilation=dilation,
        )[0]

    def plan(
        self, coords: Any, count: Any, *, capacities: Sequence[int], first_kernel_5: bool
    ) -> Any:
        """See `signatures`."""
        results = signatures.plan(
            coords, count, capacities=capacities, first_kernel_5=first_kernel_5
        )
        return self._call(
            "plan",
            results,
            coords,
            count,
            workspace=(len(capacities), int(first_kernel_5), *capacities),
            levels=len(capacities),
            first_kernel_5=first_kernel_5,
        )


def _identity(rows: int, count: Any) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """The map of a convolution of size 1, and its schedule, which needs no sorting."""
    forward = identity_rows(rows, count)
    valid = jnp.clip(count, 0, rows).astype(jnp.int32)
    order = jnp.arange(rows, dtype=jnp.int32)
    masks = (order[::32] < valid).astype(jnp.int32)[:, None]
    return forward, (order, masks, forward, valid[None])


def _load() -> ModuleType:
    import uov_jax._engine_cuda as module

    return module


CUDA = Cuda(_load, "CUDA")
