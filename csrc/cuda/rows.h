// Single rows: gather, scatter with addition and without atomics, and division by their length. See
// core/rows.h, whose results these are; bad indices are reported to `fault` and taken for -1.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "cuda/launch.h"

namespace uov::cuda {

// y[m] = x[index[m]] for m < count, a zero row where the index is -1.
template <typename T>
void gather_rows(Stream stream, const T* x, int64_t rows, int64_t channels, const int32_t* index,
                 int64_t count, T* y, int32_t* fault);

// y[target[m]] += x[source[m]] for all m < count, pairs with a -1 left out; `source` may be null,
// meaning source[m] = m. Every output row is summed in float32 in the order of m: one after the
// other, or where they are more than kPart, parts of so many and then the parts in their order.
template <typename T>
void gather_scatter_rows(Stream stream, const T* x, int64_t rows_in, int64_t channels,
                         const int32_t* source, const int32_t* target, int64_t count, T* y,
                         int64_t rows_out, void* workspace, int32_t* fault);
int64_t gather_scatter_rows_workspace(int64_t count, int64_t rows_out, int64_t channels);

// Rows that one thread adds up: a superpoint has thousands, which many threads share.
inline constexpr int kPart = 64;

// y[n] = x[n] / |x[n]| and inverse[n] = 1 / |x[n]| for n < *count, which is in the device's memory.
void unit_rows(Stream stream, const float* x, int64_t rows, int64_t channels, const int32_t* count,
               float* y, float* inverse);
// dx[n] = (dy[n] - y[n] (y[n] . dy[n])) * inverse[n], the adjoint.
void unit_rows_gradient(Stream stream, const float* dy, const float* y, const float* inverse,
                        int64_t rows, int64_t channels, const int32_t* count, float* dx);

}  // namespace uov::cuda
