// The XLA custom-call handlers of the CPU backend: this list is the only one.
#pragma once

#include "xla/ffi/api/ffi.h"

// X(name) for each: handler uov_<name>_cpu, custom call "uov_<name>".
#define UOV_FOR_EACH_HANDLER(X) \
  X(gather_gemm)                \
  X(gather_gemm_affine)         \
  X(gather_gemm_moments)        \
  X(gather_gemm_dw)             \
  X(gather_gemm_gradients)      \
  X(gather_rows)                \
  X(gather_scatter_rows)        \
  X(unit_rows)                  \
  X(unit_rows_gradient)         \
  X(submanifold_map)            \
  X(plan)                       \
  X(column_moments)             \
  X(affine_rows)                \
  X(affine_gradient_sums)       \
  X(affine_gradient_rows)       \
  X(moving_average)             \
  X(pool_threads)

#define UOV_DECLARE_HANDLER(name) XLA_FFI_DECLARE_HANDLER_SYMBOL(uov_##name##_cpu);
UOV_FOR_EACH_HANDLER(UOV_DECLARE_HANDLER)
#undef UOV_DECLARE_HANDLER
