// The XLA custom-call handlers of the CPU backend.
#pragma once

#include "xla/ffi/api/ffi.h"

XLA_FFI_DECLARE_HANDLER_SYMBOL(uov_gather_gemm_cpu);
XLA_FFI_DECLARE_HANDLER_SYMBOL(uov_gather_gemm_dw_cpu);
XLA_FFI_DECLARE_HANDLER_SYMBOL(uov_gather_rows_cpu);
XLA_FFI_DECLARE_HANDLER_SYMBOL(uov_gather_scatter_rows_cpu);
XLA_FFI_DECLARE_HANDLER_SYMBOL(uov_unit_rows_cpu);
XLA_FFI_DECLARE_HANDLER_SYMBOL(uov_unit_rows_gradient_cpu);
XLA_FFI_DECLARE_HANDLER_SYMBOL(uov_submanifold_map_cpu);
XLA_FFI_DECLARE_HANDLER_SYMBOL(uov_plan_cpu);
