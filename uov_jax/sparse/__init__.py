"""The sparse engine: coordinates and rows of features. Knows no dataset, model or loss."""

from uov_jax.sparse.backends import backends, current_backend, keep_freed_memory, use_backend
from uov_jax.sparse.norm import (
    affine_gradient_rows,
    affine_gradient_sums,
    affine_rows,
    column_moments,
)
from uov_jax.sparse.ops import (
    gather_gemm,
    gather_gemm_affine,
    gather_gemm_dw,
    gather_rows,
    gather_scatter_rows,
    identity_map,
    multiply_rows,
    scatter_add_rows,
    unit_rows,
)
from uov_jax.sparse.plan import (
    CapacityError,
    NeighbourMap,
    Plan,
    PlanSpec,
    Voxels,
    build_plan,
    build_plan_in_series,
    locality_order,
    plan_in_jit,
    smallest_spec,
    submanifold_map,
    voxelize,
)
from uov_jax.sparse.sampling import farthest_points

__all__ = [
    "CapacityError",
    "NeighbourMap",
    "Plan",
    "PlanSpec",
    "Voxels",
    "affine_gradient_rows",
    "affine_gradient_sums",
    "affine_rows",
    "backends",
    "build_plan",
    "build_plan_in_series",
    "column_moments",
    "current_backend",
    "farthest_points",
    "gather_gemm",
    "gather_gemm_affine",
    "gather_gemm_dw",
    "gather_rows",
    "gather_scatter_rows",
    "identity_map",
    "keep_freed_memory",
    "locality_order",
    "multiply_rows",
    "plan_in_jit",
    "scatter_add_rows",
    "smallest_spec",
    "submanifold_map",
    "unit_rows",
    "use_backend",
    "voxelize",
]
