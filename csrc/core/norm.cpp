#include "core/norm.h"

#include <algorithm>
#include <vector>

#include "core/kernels.h"

namespace uov {
namespace {

// Two vectors summed over the valid rows: add(begin, end, first, second) adds the rows of one task
// to zeros, join(rows so far, first, second, more rows, their first, their second, channels) takes
// the tasks in their order.
template <typename Add, typename Join>
void reduce_rows(const NormShape& shape, float* first, float* second,
                 const ParallelFor& parallel_for, Add&& add, Join&& join) {
  const int64_t block = rows_per_task(shape.channels);
  const int64_t tasks = ceil_div(shape.valid, block);
  std::vector<float> parts(tasks * 2 * shape.channels);
  for_row_blocks(shape.valid, shape.channels, parallel_for, [&](int64_t begin, int64_t end) {
    float* part = parts.data() + begin / block * 2 * shape.channels;
    add(begin, end, part, part + shape.channels);
  });
  std::fill_n(first, shape.channels, 0.0f);
  std::fill_n(second, shape.channels, 0.0f);
  for (int64_t i = 0; i < tasks; ++i) {
    const float* part = parts.data() + i * 2 * shape.channels;
    const int64_t more = std::min(block, shape.valid - i * block);
    join(i * block, first, second, more, part, part + shape.channels, shape.channels);
  }
}

// Calls body(begin, rows) for blocks of valid rows and clear(begin, rows) for the others.
template <typename Body, typename Clear>
void for_each_block(const NormShape& shape, const ParallelFor& parallel_for, Body&& body,
                    Clear&& clear) {
  for_row_blocks(shape.rows, shape.channels, parallel_for, [&](int64_t begin, int64_t end) {
    const int64_t stop = std::clamp(shape.valid, begin, end);
    if (stop > begin) body(begin, stop - begin);
    clear(stop, end - stop);
  });
}

}  // namespace

void join_moments(int64_t rows, float* __restrict mean, float* __restrict m2, int64_t more,
                  const float* __restrict more_mean, const float* __restrict more_m2,
                  int64_t channels) {
  if (more == 0) return;
  const float share = static_cast<float>(more) / static_cast<float>(rows + more);
  const float weight = static_cast<float>(rows) * share;
  for (int64_t c = 0; c < channels; ++c) {
    const float distance = more_mean[c] - mean[c];
    mean[c] += distance * share;
    m2[c] += more_m2[c] + distance * distance * weight;
  }
}

template <typename T>
void few_moments(const T* x, int64_t stride, int64_t rows, int64_t channels, float* mean,
                 float* m2) {
  const RowKernels<T>& inner = row_kernels<T>();
  std::fill_n(mean, channels, 0.0f);
  std::fill_n(m2, channels, 0.0f);
  inner.norm.add_rows(x, stride, rows, channels, mean);
  for (int64_t c = 0; c < channels; ++c) mean[c] /= static_cast<float>(rows);
  inner.norm.add_squares(x, stride, rows, channels, mean, m2);
}

template <typename T>
void column_moments(const NormShape& shape, const T* x, float* mean, float* m2,
                    const ParallelFor& parallel_for) {
  const int64_t channels = shape.channels;
  reduce_rows(
      shape, mean, m2, parallel_for,
      [&](int64_t begin, int64_t end, float* part_mean, float* part_m2) {
        std::vector<float> few(2 * channels);
        for (int64_t row = begin; row < end; row += kMomentRows) {
          const int64_t count = std::min(kMomentRows, end - row);
          few_moments(x + row * channels, channels, count, channels, few.data(),
                      few.data() + channels);
          join_moments(row - begin, part_mean, part_m2, count, few.data(), few.data() + channels,
                       channels);
        }
      },
      join_moments);
}

template <typename T>
void affine_rows(const NormShape& shape, const T* x, const float* mean, const float* scale,
                 const float* bias, const T* shortcut, bool relu, T* y,
                 const ParallelFor& parallel_for) {
  const int64_t channels = shape.channels;
  for_each_block(
      shape, parallel_for,
      [&](int64_t begin, int64_t rows) {
        const int64_t at = begin * channels;
        row_kernels<T>().norm.affine(x + at, channels, rows, channels, mean, scale, bias,
                                     shortcut == nullptr ? nullptr : shortcut + at, relu, y + at,
                                     channels);
      },
      [&](int64_t begin, int64_t rows) {
        std::fill_n(y + begin * channels, rows * channels, T{});
      });
}

template <typename T>
void finish_rows(const RowAffine<T>& affine, const RowBlock& block, const float* sums,
                 int64_t sums_stride, int64_t channels, T* y) {
  const auto [begin, end, left, right] = block;
  const int64_t stop = std::clamp(affine.valid, begin, end);
  const T* shortcut = affine.shortcut;
  row_kernels<T>().norm.affine_of_sums(
      sums, sums_stride, stop - begin, right - left, affine.mean + left, affine.scale + left,
      affine.bias + left, shortcut == nullptr ? nullptr : shortcut + begin * channels + left,
      affine.relu, y, channels);
  for (int64_t row = stop; row < end; ++row) {
    std::fill_n(y + (row - begin) * channels, right - left, T{});
  }
}

template <typename T>
void affine_gradient_sums(const NormShape& shape, const T* dy, const T* y, const T* x,
                          const float* mean, float* sum, float* sum_deviation,
                          const ParallelFor& parallel_for) {
  const int64_t channels = shape.channels;
  reduce_rows(
      shape, sum, sum_deviation, parallel_for,
      [&](int64_t begin, int64_t end, float* part, float* part_deviation) {
        const int64_t at = begin * channels;
        row_kernels<T>().norm.add_gradients(dy + at, y == nullptr ? nullptr : y + at, x + at,
                                            end - begin, channels, mean, part, part_deviation);
      },
      [](int64_t, float* first, float* second, int64_t, const float* more_first,
         const float* more_second, int64_t count) {
        for (int64_t c = 0; c < count; ++c) first[c] += more_first[c];
        for (int64_t c = 0; c < count; ++c) second[c] += more_second[c];
      });
}

template <typename T>
void affine_gradient_rows(const NormShape& shape, const T* dy, const T* y, const T* x,
                          const float* mean, const float* offset, const float* slope,
                          const float* scale, T* dx, T* dshortcut,
                          const ParallelFor& parallel_for) {
  const int64_t channels = shape.channels;
  for_each_block(
      shape, parallel_for,
      [&](int64_t begin, int64_t rows) {
        const int64_t at = begin * channels;
        row_kernels<T>().norm.gradient(dy + at, y == nullptr ? nullptr : y + at, x + at, rows,
                                       channels, mean, offset, slope, scale, dx + at,
                                       dshortcut == nullptr ? nullptr : dshortcut + at);
      },
      [&](int64_t begin, int64_t rows) {
        std::fill_n(dx + begin * channels, rows * channels, T{});
        if (dshortcut != nullptr) std::fill_n(dshortcut + begin * channels, rows * channels, T{});
      });
}

#define UOV_NORM_OF(T)                                                                             \
  template void few_moments<T>(const T*, int64_t, int64_t, int64_t, float*, float*);               \
  template void column_moments<T>(const NormShape&, const T*, float*, float*, const ParallelFor&); \
  template void affine_rows<T>(const NormShape&, const T*, const float*, const float*,             \
                               const float*, const T*, bool, T*, const ParallelFor&);              \
  template void finish_rows<T>(const RowAffine<T>&, const RowBlock&, const float*, int64_t,        \
                               int64_t, T*);                                                       \
  template void affine_gradient_sums<T>(const NormShape&, const T*, const T*, const T*,            \
                                        const float*, float*, float*, const ParallelFor&);         \
  template void affine_gradient_rows<T>(const NormShape&, const T*, const T*, const T*,            \
                                        const float*, const float*, const float*, const float*,    \
                                        T*, T*, const ParallelFor&);
UOV_NORM_OF(float)
UOV_NORM_OF(bfloat16)
#undef UOV_NORM_OF

}  // namespace uov
