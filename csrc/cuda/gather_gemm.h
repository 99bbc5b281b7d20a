// Sparse convolution as one product over existing neighbours, on the GPU.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "core/gather_gemm_shape.h"
#include "cuda/launch.h"
#include "cuda/norm.h"
#include "cuda/schedule.h"
#include "cuda/tiles.h"

namespace uov::cuda {

// y[n] = sum_k x[map[k, n]] @ w[k], as uov::gather_gemm has it, with sums in float32 that run over
// k in ascending order and then over channels: the same bits for any tile and order of blocks. What
// is multiplied is rounded as `precision` says, bfloat16 rows are multiplied as they are. The
// schedule is of the map, or empty. Entries of `map` that are no row of x are reported to `fault`
// and left out. `after`, if not null, is what becomes of the sums before they are rounded; the
// product must not be transposed then.
//
// Rows without a neighbour multiply its weights by zeros: weights that are not finite may make them
// NaN.
template <typename T>
void gather_gemm(Stream stream, const GatherGemmShape& shape, WeightView view, Precision precision,
                 const T* x, const T* w, const int32_t* map, const RowOrder& order,
                 const RowAffine<T>* after, T* y, void* workspace, int32_t* fault);

// Bytes of its workspace, by shape alone.
int64_t gather_gemm_workspace(const GatherGemmShape& shape);

// The same, and the column_moments of y, which are taken of the sums of 32 rows at a time while
// they are in registers.
template <typename T>
void gather_gemm_moments(Stream stream, const GatherGemmShape& shape, Precision precision,
                         const T* x, const T* w, const int32_t* map, const RowOrder& order,
                         const int32_t* count, T* y, float* mean, float* m2, void* workspace,
                         int32_t* fault);
int64_t gather_gemm_moments_workspace(const GatherGemmShape& shape);

// For tests and measurements: from now on this tile of kGatherTiles in place of the table's, -1 for
// those. Where a precision does not have it, the table's stays.
void use_gather_tile(int tile);

}  // namespace uov::cuda
