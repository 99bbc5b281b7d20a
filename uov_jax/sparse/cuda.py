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
import numpy as np

from uov_jax.sparse import signatures
from uov_jax.sparse.engine import AVAILABLE
from uov_jax.sparse.handlers import Handlers

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


def _product_sizes(x: Any, w: Any, forward: Any, precision: str) -> tuple[int, ...]:
    """What the workspace of a product depends on."""
    rows, how = forward.shape[1], _PRECISION[precision]
    return (*w.shape, rows, x.dtype.itemsize, how)


class Cuda(Handlers):
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
            RuntimeError: it cannot run here.

        """
        module = self._load()
        if not self._registered:
            # Memory for faults is made when it is first asked for: not while XLA records.
            for device in self._devices():
                module.fault(device)
            for name, handler in module.handlers().items():
                jax.ffi.register_ffi_target(name, handler, platform=self._platform)
            self._registered = True
        return module

    def _devices(self) -> list[int]:
        """Its devices of this process, by their numbers; none where JAX has none of the kind."""
        try:
            devices = jax.local_devices(backend=self._platform.lower())
        except RuntimeError:
            return []
        return sorted({device.local_hardware_id or 0 for device in devices})

    def status(self) -> str:
        """Whether the module is there and what it was built for, or why it is not."""
        try:
            where = "" if self._devices() else "; no such device here: to be lowered for alone"
            return f"{AVAILABLE} (built for {self.module().built_for()}{where})"
        except RuntimeError as error:
            return f"the kernels of uov_jax._engine_cuda cannot run here: {error}"
        except ImportError as error:
            reason = WHY_NOT_BUILT.read_text().strip() if WHY_NOT_BUILT.is_file() else str(error)
            return (
                f"the extension uov_jax._engine_cuda is not built ({reason}): "
                "run `UOV_CUDA=1 pip install .` where nvcc is"
            )

    def call(
        self,
        op: str,
        results: Any,
        *operands: Any,
        workspace: Sequence[int] = (),
        **attributes: Any,
    ) -> Any:
        """Kernels of a GPU find their workspace behind their results."""
        module = self.module()  # registers the handlers
        wanted = results if isinstance(results, list) else [results]
        expected = list(wanted)
        if workspace:
            size = module.workspace_bytes(op, list(workspace))
            expected.append(jax.ShapeDtypeStruct((size,), jnp.uint8))
        found = jax.ffi.ffi_call(f"uov_cuda_{op}", expected, vmap_method="sequential")(
            *operands, **attributes
        )
        return found[: len(wanted)] if isinstance(results, list) else found[0]

    def fault(self) -> str | None:
        """What kernels found wrong first since this was asked last, on any device of this process.

        Nothing, where none has been asked to run.

        Ask when results have arrived: kernels that still run are not waited for.
        """
        if not self._registered:
            return None
        module = self.module()
        first = None
        for device in self._devices():
            kind, a, b, _ = module.fault(device)
            if kind:
                first = first or _FAULTS[kind].format(a=a, b=b)
                module.clear_fault(device)
        return first

    @staticmethod
    def schedule_shapes(shape: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
        """Of the order of rows, masks of each 32, pairs by offset and their numbers."""
        offsets, rows = shape
        return (rows,), (-(-rows // 32), -(-offsets // 32)), shape, (offsets,)

    def schedule(self, forward: Any, *, backend: str, shapes: Any) -> Any:
        """Rows ordered by their neighbours, and pairs by offset: see `csrc/cuda/schedule.h`."""
        results = signatures.schedule(forward, backend=backend, shapes=shapes)
        return self.call("schedule", results, forward, workspace=forward.shape)

    def _scheduled(self, forward: Any, schedule: Any) -> Any:
        if schedule is not None:
            return schedule
        if forward.shape[0] == 1:  # nothing is gained by it: kernels do without
            return [jnp.zeros(shape, jnp.int32) for shape in ((0,), (0, 0), (0, 0), (0,))]
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
        return self.call(
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
        )

    def voxelize(
        self,
        points: Any,
        count: Any,
        *,
        voxel_size: tuple[float, float, float],
        cylindrical: bool,
    ) -> Any:
        """See `signatures`."""
        results = signatures.voxelize(points, count, voxel_size=voxel_size, cylindrical=cylindrical)
        sizes = dict(zip(("size_x", "size_y", "size_z"), map(np.float32, voxel_size), strict=True))
        workspace = points.shape[:1]
        operands = (points, count)
        how = {**sizes, "cylindrical": cylindrical}
        return self.call("voxelize", results, *operands, workspace=workspace, **how)

    def gather_gemm_affine(
        self, x: Any, w: Any, forward: Any, schedule: Any, *norm: Any, relu: bool, precision: str
    ) -> Any:
        """While the sums are in registers; they are rounded once."""
        result = signatures.gather_gemm_affine(
            x, w, forward, schedule, *norm, relu=relu, precision=precision
        )
        order, masks, _, _ = self._scheduled(forward, schedule)
        *parameters, shortcut, count = norm
        given = shortcut is not None
        return self.call(
            "gather_gemm_affine",
            result,
            *(x, w, forward, order, masks, *parameters, shortcut if given else x, count),
            workspace=_product_sizes(x, w, forward, precision),
            has_shortcut=given,
            relu=relu,
            precision=_PRECISION[precision],
        )

    def gather_gemm_moments(
        self, x: Any, w: Any, forward: Any, schedule: Any, count: Any, *, precision: str
    ) -> Any:
        """While the sums are in registers."""
        results = signatures.gather_gemm_moments(
            x, w, forward, schedule, count, precision=precision
        )
        order, masks, _, _ = self._scheduled(forward, schedule)
        return self.call(
            "gather_gemm_moments",
            results,
            *(x, w, forward, order, masks, count),
            workspace=_product_sizes(x, w, forward, precision),
            precision=_PRECISION[precision],
        )

    def gather_gemm_dw(
        self, x: Any, dy: Any, forward: Any, schedule: Any, *, precision: str
    ) -> Any:
        """See `signatures`."""
        dw = signatures.gather_gemm_dw(x, dy, forward, schedule, precision=precision)
        _, _, pair_rows, pair_counts = self._scheduled(forward, schedule)
        how = _PRECISION[precision]
        return self.call(
            "gather_gemm_dw",
            dw,
            x,
            dy,
            forward,
            pair_rows,
            pair_counts,
            workspace=(*dw.shape, dy.shape[0], x.dtype.itemsize, how),
            precision=how,
        )


def _load() -> ModuleType:
    import uov_jax._engine_cuda as module

    return module


CUDA = Cuda(_load, "CUDA")
