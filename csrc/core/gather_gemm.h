// Sparse convolution as one product over existing neighbours, and its weight gradient.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "core/gather_gemm_shape.h"
#include "core/norm.h"
#include "core/parallel.h"

namespace uov {

// y[n] = sum_k x[map[k, n]] @ w[k], negative map entries contribute nothing. x is
// [rows_in, channels_in], map [K, rows_out]; entries of rows_in and more throw std::out_of_range.
// Accumulates in float32, the middle k first: bit-identical for any number of threads. `after`, if
// not null, is applied to the sums of every block while they are in cache.
template <typename T>
void gather_gemm(const GatherGemmShape& shape, WeightView view, const T* x, const T* w,
                 const int32_t* map, const RowAffine<T>* after, T* y,
                 const ParallelFor& parallel_for);

// The same with mean and sum of squared deviations of every column of y over its first `valid` rows
// (see column_moments), taken while the blocks are in cache. 0 <= valid <= rows_out.
template <typename T>
void gather_gemm_moments(const GatherGemmShape& shape, const T* x, const T* w, const int32_t* map,
                         int64_t valid, T* y, float* mean, float* m2,
                         const ParallelFor& parallel_for);

// dw[k] = sum_n x[map[k, n]]^T dy[n], [K, channels_in, channels_out] in float32. Work is cut by
// number of pairs, partial sums are added in a fixed order.
template <typename T>
void gather_gemm_dw(const GatherGemmShape& shape, const T* x, const T* dy, const int32_t* map,
                    float* dw, const ParallelFor& parallel_for);

// Both gradients of gather_gemm (`shape`, `map`), side by side so that no thread waits for the end
// of either: dx is the product of dy and the transposed weights over the map `back`
// [K, rows_in], or where that is null over `map` mirrored, which is then a submanifold map.
template <typename T>
void gather_gemm_gradients(const GatherGemmShape& shape, const T* x, const T* w, const T* dy,
                           const int32_t* map, const int32_t* back, T* dx, float* dw,
                           const ParallelFor& parallel_for);

}  // namespace uov
