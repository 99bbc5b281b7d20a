// Moving rows: gather, and scatter with addition, without atomics.
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

}  // namespace uov
