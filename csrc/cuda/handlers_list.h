// The XLA custom-call handlers of the CUDA backend: this list is the only one.
#pragma once

#include <cstdint>
#include <vector>

#include "xla/ffi/api/ffi.h"

// X(name) for each: handler uov_<name>_cuda, custom call "uov_cuda_<name>".
#define UOV_FOR_EACH_CUDA_HANDLER(X) \
  X(schedule)                        \
  X(gather_gemm)                     \
  X(gather_gemm_affine)              \
  X(gather_gemm_moments)             \
  X(gather_gemm_dw)                  \
  X(gather_rows)                     \
  X(gather_scatter_rows)             \
  X(unit_rows)                       \
  X(unit_rows_gradient)              \
  X(column_moments)                  \
  X(affine_rows)                     \
  X(affine_gradient_sums)            \
  X(affine_gradient_rows)            \
  X(submanifold_map)                 \
  X(plan)                            \
  X(voxelize)

// Those of them whose last result is a workspace: int64_t uov_<name>_workspace(sizes) says how many
// bytes it must have.
#define UOV_FOR_EACH_CUDA_WORKSPACE(X) \
  X(schedule)                          \
  X(gather_gemm)                       \
  X(gather_gemm_affine)                \
  X(gather_gemm_moments)               \
  X(gather_gemm_dw)                    \
  X(gather_scatter_rows)               \
  X(column_moments)                    \
  X(affine_gradient_sums)              \
  X(submanifold_map)                   \
  X(plan)                              \
  X(voxelize)

#define UOV_DECLARE_HANDLER(name) XLA_FFI_DECLARE_HANDLER_SYMBOL(uov_##name##_cuda);
UOV_FOR_EACH_CUDA_HANDLER(UOV_DECLARE_HANDLER)
#undef UOV_DECLARE_HANDLER
#define UOV_DECLARE_WORKSPACE(name) \
  int64_t uov_##name##_workspace(const std::vector<int64_t>& sizes);
UOV_FOR_EACH_CUDA_WORKSPACE(UOV_DECLARE_WORKSPACE)
#undef UOV_DECLARE_WORKSPACE
