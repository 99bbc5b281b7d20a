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

// Rows whose moments are taken at once: 64 x 96 floats = 24 KiB, so that the second look at them
// finds them in the first-level cache, or in the second-level one where they are wider.
inline constexpr int64_t kMomentRows = 64;

// What column_moments gives, of 1 <= rows <= kMomentRows rows at x, x + stride ..., without
// threads.
template <typename T>
void few_moments(const T* x, int64_t stride, int64_t rows, int64_t channels, float* mean,
                 float* m2);

// Joins the moments of `more` rows to those of `rows` rows: Chan, Golub and LeVeque, "Updating
// Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979, equation 2.1.
void join_moments(int64_t rows, float* mean, float* m2, int64_t more, const float* more_mean,
                  const float* more_m2, int64_t channels);

// y = (x - mean) * scale + bias [+ shortcut], then the ReLU if asked for. `shortcut` may be null.
template <typename T>
void affine_rows(const NormShape& shape, const T* x, const float* mean, const float* scale,
                 const float* bias, const T* shortcut, bool relu, T* y,
                 const ParallelFor& parallel_for);

// Rows [begin, end) and columns [left, right) of a result that is computed block by block.
struct RowBlock {
  int64_t begin, end, left, right;
};

// What affine_rows does, for such blocks.
template <typename T>
struct RowAffine {
  const float *mean, *scale, *bias;  // [channels]
  const T* shortcut;                 // [rows, channels] or null
  bool relu;
  int64_t valid;  // rows from here on become zero
};

// A block of the result [rows, channels] from its float32 sums, which may stand in the same memory;
// `sums` and `y` point to the block's first number.
template <typename T>
void finish_rows(const RowAffine<T>& affine, const RowBlock& block, const float* sums,
                 int64_t sums_stride, int64_t channels, T* y);

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
