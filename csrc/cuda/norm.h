// Batch norm on rows: moments of the columns, the affine map after them, and its gradient. See
// core/norm.h, whose results these are.
//
// Rows [rows, channels] of which the first *count count, a number in the device's memory: the
// others are never read, and are zero in every result that has rows. Sums run over tiles of rows
// that the shape alone decides, and join them in their order.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "cuda/launch.h"

namespace uov::cuda {

// Mean, and sum of the squared deviations from it, of every column; zeros without a valid row.
template <typename T>
void column_moments(Stream stream, const T* x, int64_t rows, int64_t channels, const int32_t* count,
                    float* mean, float* m2, void* workspace);
// Of this and of affine_gradient_sums.
int64_t column_sums_workspace(int64_t rows, int64_t channels);

// The same of rows whose moments are known in groups, which are joined in their order:
// parts[g, 0] has the means of group g's columns, parts[g, 1] their sums of squared deviations,
// over group_rows[g] rows.
void join_moments(Stream stream, const float* parts, const int32_t* group_rows, int64_t groups,
                  int64_t channels, float* mean, float* m2, void* workspace);
int64_t join_moments_workspace(int64_t groups, int64_t channels);

// y = (x - mean) * scale + bias [+ shortcut], then the ReLU if asked for.
template <typename T>
struct RowAffine {
  const float *mean, *scale, *bias;  // [channels]
  const T* shortcut;                 // [rows, channels] or null
  const int32_t* count;
  bool relu;
};
template <typename T>
void affine_rows(Stream stream, const T* x, int64_t rows, int64_t channels,
                 const RowAffine<T>& affine, T* y);

// Sums of g and of g * (x - mean) over the rows, with g = dy where y > 0 and zero elsewhere; `y`
// may be null: then g = dy.
template <typename T>
void affine_gradient_sums(Stream stream, const T* dy, const T* y, const T* x, int64_t rows,
                          int64_t channels, const float* mean, const int32_t* count, float* sum,
                          float* sum_deviation, void* workspace);

// dx = (g - offset - (x - mean) * slope) * scale, and dshortcut = g unless that is null; g as
// above.
template <typename T>
void affine_gradient_rows(Stream stream, const T* dy, const T* y, const T* x, int64_t rows,
                          int64_t channels, const float* mean, const float* offset,
                          const float* slope, const float* scale, const int32_t* count, T* dx,
                          T* dshortcut);

}  // namespace uov::cuda
