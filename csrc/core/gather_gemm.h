// Sparse convolution as one product over existing neighbours, and its weight gradient.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "core/norm.h"
#include "core/parallel.h"

namespace uov {

// How the weights [K, rows, columns] of a call are read.
struct WeightView {
  // The stored matrices are used transposed, and slot k uses the matrix K-1-k: with both, a
  // submanifold convolution's input gradient is a convolution over the same map.
  bool transposed = false;
  bool mirrored = false;
};

struct GatherGemmShape {
  int64_t kernel;  // K
  int64_t rows_in, rows_out;
  int64_t channels_in, channels_out;  // of the product: after any transposition
};

// y[n] = sum_k x[map[k, n]] @ w[k], negative map entries contribute nothing. x is
// [rows_in, channels_in], map [K, rows_out]; entries of rows_in and more throw std::out_of_range.
// Accumulates in float32, the middle k first: bit-identical for any number of threads. `after`, if
// not null, is applied to the sums of every block while they are in cache.
template <typename T>
void gather_gemm(const GatherGemmShape& shape, WeightView view, const T* x, const T* w,
                 const int32_t* map, const RowAffine<T>* after, T* y,
                 const ParallelFor& parallel_for);

// dw[k] = sum_n x[map[k, n]]^T dy[n], [K, channels_in, channels_out] in float32. Work is cut by
// number of pairs, partial sums are added in a fixed order.
template <typename T>
void gather_gemm_dw(const GatherGemmShape& shape, const T* x, const T* dy, const int32_t* map,
                    float* dw, const ParallelFor& parallel_for);

}  // namespace uov
