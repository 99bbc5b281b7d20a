"""Ops that are one call of a compiled handler, with the same arguments on a CPU and on a GPU."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import jax

from uov_jax.sparse import signatures
from uov_jax.sparse.rows import identity_rows


class Handlers(ABC):
    """The functions of `signatures` by their names, as far as handlers agree on them."""

    @abstractmethod
    def call(
        self,
        op: str,
        results: Any,
        *operands: Any,
        workspace: Sequence[int] = (),
        **attributes: Any,
    ) -> Any:
        """The result or results of a handler.

        Args:
            op: its name.
            results: shapes and dtypes, as `jax.ffi.ffi_call` takes them.
            operands: what it binds as arguments.
            workspace: what the size of its workspace depends on, if it has one.
            attributes: what it binds as attributes.

        """

    @abstractmethod
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

    @abstractmethod
    def gather_gemm_dw(
        self, x: Any, dy: Any, forward: Any, schedule: Any, *, precision: str
    ) -> Any:
        """See `signatures`."""

    def multiply_rows(self, x: Any, w: Any, count: Any, *, transposed: bool, precision: str) -> Any:
        """A convolution of size 1."""
        rows = identity_rows(x.shape[0], count)
        return self.gather_gemm(
            x, w[None], rows, None, transposed=transposed, mirrored=False, precision=precision
        )

    def multiply_rows_dw(self, x: Any, dy: Any, count: Any, *, precision: str) -> Any:
        """A convolution of size 1."""
        rows = identity_rows(x.shape[0], count)
        return self.gather_gemm_dw(x, dy, rows, None, precision=precision)[0]

    def gather_rows(self, x: Any, index: Any) -> Any:
        """See `signatures`."""
        return self.call("gather_rows", signatures.gather_rows(x, index), x, index)

    def gather_scatter_rows(self, x: Any, source: Any, target: Any, *, num_rows: int) -> Any:
        """See `signatures`."""
        return self.call(
            "gather_scatter_rows",
            signatures.gather_scatter_rows(x, source, target, num_rows=num_rows),
            x,
            target if source is None else source,
            target,
            workspace=(target.shape[0], num_rows, x.shape[1]),
            identity=source is None,
        )

    def unit_rows(self, x: Any, count: Any) -> Any:
        """See `signatures`."""
        return self.call("unit_rows", signatures.unit_rows(x, count), x, count)

    def unit_rows_gradient(self, dy: Any, y: Any, inverse: Any, count: Any) -> Any:
        """See `signatures`."""
        result = signatures.unit_rows_gradient(dy, y, inverse, count)
        return self.call("unit_rows_gradient", result, dy, y, inverse, count)

    def column_moments(self, x: Any, count: Any) -> Any:
        """See `signatures`."""
        results = signatures.column_moments(x, count)
        return self.call("column_moments", results, x, count, workspace=x.shape)

    def affine_rows(
        self, x: Any, mean: Any, scale: Any, bias: Any, shortcut: Any, count: Any, *, relu: bool
    ) -> Any:
        """See `signatures`."""
        result = jax.ShapeDtypeStruct(x.shape, x.dtype)
        operands = (x, mean, scale, bias, x if shortcut is None else shortcut, count)
        given = shortcut is not None
        return self.call("affine_rows", result, *operands, has_shortcut=given, relu=relu)

    def affine_gradient_sums(self, dy: Any, y: Any, x: Any, mean: Any, count: Any) -> Any:
        """See `signatures`."""
        results = signatures.affine_gradient_sums(dy, y, x, mean, count)
        operands = (dy, dy if y is None else y, x, mean, count)
        relu = y is not None
        return self.call("affine_gradient_sums", results, *operands, workspace=x.shape, relu=relu)

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
        found = self.call(
            "affine_gradient_rows",
            [rows, rows if has_shortcut else unwanted],
            *operands,
            relu=y is not None,
            has_shortcut=has_shortcut,
        )
        return found if has_shortcut else found[:1]

    def submanifold_map(
        self, coords: Any, count: Any, *, kernel: int, tensor_stride: int, dilation: int
    ) -> Any:
        """See `signatures`."""
        result = signatures.submanifold_map(
            coords, count, kernel=kernel, tensor_stride=tensor_stride, dilation=dilation
        )
        return self.call(
            "submanifold_map",
            result,
            coords,
            count,
            workspace=(coords.shape[0], kernel),
            kernel=kernel,
            tensor_stride=tensor_stride,
            dilation=dilation,
        )

    def plan(
        self, coords: Any, count: Any, *, capacities: Sequence[int], first_kernel_5: bool
    ) -> Any:
        """See `signatures`."""
        results = signatures.plan(
            coords, count, capacities=capacities, first_kernel_5=first_kernel_5
        )
        return self.call(
            "plan",
            results,
            coords,
            count,
            workspace=(len(capacities), int(first_kernel_5), *capacities),
            levels=len(capacities),
            first_kernel_5=first_kernel_5,
        )
