// Single rows: gather, scatter with addition and without atomics, and division by their length.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "core/parallel.h"

namespace uov {

// y[m] = x[index[m]]; an index of -1 gives a zero row. Others outside [0, rows) throw
// std::out_of_range.
template <typename T>
void gather_rows(const T* x, int64_t rows, int64_t channels, const int32_t* index, int64_t count,
                 T* y, const ParallelFor& parallel_for);

// y[target[m]] += x[source[m]] for all m, pairs with a -1 left out; `source` may be null, meaning
// source[m] = m. Every output row is summed by one task in the order of m, in float32.
template <typename T>
void gather_scatter_rows(const T* x, int64_t rows_in, int64_t channels, const int32_t* source,
                         const int32_t* target, int64_t count, T* y, int64_t rows_out,
                         const ParallelFor& parallel_for);

// What is shorter has no direction.
constexpr float kShortestRow = 1e-12f;

// y[n] = x[n] / |x[n]| and inverse[n] = 1 / |x[n]| for the first `count` of `rows` rows; rows
// shorter than kShortestRow, and those past `count`, which are not read, become zero and their
// inverse too. A row whose length is no finite float32 has no direction either: it, its inverse and
// its gradient are not numbers.
void unit_rows(const float* x, int64_t rows, int64_t channels, int64_t count, float* y,
               float* inverse, const ParallelFor& parallel_for);

// dx[n] = (dy[n] - y[n] (y[n] . dy[n])) * inverse[n], the adjoint of unit_rows; zero past `count`.
void unit_rows_gradient(const float* dy, const float* y, const float* inverse, int64_t rows,
                        int64_t channels, int64_t count, float* dx,
                        const ParallelFor& parallel_for);

}  // namespace uov
