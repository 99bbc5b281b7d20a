// Batch norm on rows: moments of the columns, the affine map after them, and its gradient.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "core/parallel.h"

namespace uov {

// Rows [rows, channels] of which the first `valid` count: the others are never read, and are zero
// in every result that has rows. Vectors over the channels are float32, and so are all sums; they
// run over blocks of rows that the shape alone decides, in a fixed order.
struct NormShape {
  int64_t rows, valid, channels;
};

// Mean, and sum of the squared deviations from it, of every column; zeros without a valid row.
template <typename T>
void column_moments(const NormShape& shape, const T* x, float* mean, float* m2,
                    const ParallelFor& parallel_for);

// y = (x - mean) * scale + bias [+ shortcut], then the ReLU if asked for. `shortcut` may be null.
template <typename T>
void affine_rows(const NormShape& shape, const T* x, const float* mean, const float* scale,
                 const float* bias, const T* shortcut, bool relu, T* y,
                 const ParallelFor& parallel_for);

// Sums of g and of g * (x - mean) over the rows, with g = dy where y > 0 and zero elsewhere; `y`
// may be null: then g = dy.
template <typename T>
void affine_gradient_sums(const NormShape& shape, const T* dy, const T* y, const T* x,
                          const float* mean, float* sum, float* sum_deviation,
                          const ParallelFor& parallel_for);

// dx = (g - offset - (x - mean) * slope) * scale, and dshortcut = g unless that is null; g as
// above.
template <typename T>
void affine_gradient_rows(const NormShape& shape, const T* dy, const T* y, const T* x,
                          const float* mean, const float* offset, const float* slope,
                          const float* scale, T* dx, T* dshortcut, const ParallelFor& parallel_for);

}  // namespace uov
