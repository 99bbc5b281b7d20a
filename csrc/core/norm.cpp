#include "core/norm.h"

#include <algorithm>
#include <type_traits>
#include <vector>

namespace uov {
namespace {

// 64 x 96 floats = 24 KiB: the second look at a block finds it in the first-level cache, or in the
// second-level one for wider rows.
constexpr int64_t kMomentRows = 64;
// Rows that enter the sums together: alone, each would load and store all sums; with more of them,
// three arrays make more streams of memory than the processor follows.
constexpr int64_t kRowsAtOnce = 2;

// Calls body(row, how many as a constant) for rows [begin, end), kRowsAtOnce at a time.
template <typename Body>
void for_rows_at_once(int64_t begin, int64_t end, Body&& body) {
  int64_t row = begin;
  for (; row + kRowsAtOnce <= end; row += kRowsAtOnce) {
    body(row, std::integral_constant<int64_t, kRowsAtOnce>{});
  }
  for (; row < end; ++row) body(row, std::integral_constant<int64_t, 1>{});
}

// Calls body with both flags as constants, so that inner loops have no branches.
template <typename Body>
void with_flags(bool first, bool second, Body&& body) {
  using Yes = std::true_type;
  using No = std::false_type;
  if (first && second) return body(Yes{}, Yes{});
  if (first) return body(Yes{}, No{});
  if (second) return body(No{}, Yes{});
  body(No{}, No{});
}

template <int64_t ROWS, typename T>
void add_rows(const T* __restrict x, int64_t stride, int64_t channels, float* __restrict sum) {
  for (int64_t c = 0; c < channels; ++c) {
    float total = sum[c];
    for (int64_t i = 0; i < ROWS; ++i) total += to_float(x[i * stride + c]);
    sum[c] = total;
  }
}

template <int64_t ROWS, typename T>
void add_squares(const T* __restrict x, int64_t stride, const float* __restrict mean,
                 int64_t channels, float* __restrict sum) {
  for (int64_t c = 0; c < channels; ++c) {
    float total = sum[c];
    for (int64_t i = 0; i < ROWS; ++i) {
      const float deviation = to_float(x[i * stride + c]) - mean[c];
      total += deviation * deviation;
    }
    sum[c] = total;
  }
}

// `y` may be `x`.
template <bool SHORTCUT, bool RELU, typename From, typename T>
void affine_row(const From* x, const float* __restrict mean, const float* __restrict scale,
                const float* __restrict bias, const T* __restrict shortcut, int64_t channels,
                T* y) {
#pragma GCC ivdep
  for (int64_t c = 0; c < channels; ++c) {
    float value = (to_float(x[c]) - mean[c]) * scale[c] + bias[c];
    if (SHORTCUT) value += to_float(shortcut[c]);
    if (RELU) value = 0.0f > value ? 0.0f : value;  // lets a NaN through
    y[c] = from_float<T>(value);
  }
}

template <bool RELU, typename T>
inline float passed(const T* dy, const T* y, int64_t i) {
  const float value = to_float(dy[i]);
  return !RELU || to_float(y[i]) > 0.0f ? value : 0.0f;
}

template <int64_t ROWS, bool RELU, typename T>
void add_gradients(const T* __restrict dy, const T* __restrict y, const T* __restrict x,
                   const float* __restrict mean, int64_t channels, float* __restrict sum,
                   float* __restrict sum_deviation) {
  for (int64_t c = 0; c < channels; ++c) {
    float total = sum[c], total_deviation = sum_deviation[c];
    for (int64_t i = 0; i < ROWS; ++i) {
      const float g = passed<RELU>(dy, y, i * channels + c);
      total += g;
      total_deviation += g * (to_float(x[i * channels + c]) - mean[c]);
    }
    sum[c] = total;
    sum_deviation[c] = total_deviation;
  }
}

template <bool SHORTCUT, bool RELU, typename T>
void gradient_row(const T* __restrict dy, const T* __restrict y, const T* __restrict x,
                  const float* __restrict mean, const float* __restrict offset,
                  const float* __restrict slope, const float* __restrict scale, int64_t channels,
                  T* __restrict dx, T* __restrict dshortcut) {
  for (int64_t c = 0; c < channels; ++c) {
    const float g = passed<RELU>(dy, y, c);
    const float deviation = to_float(x[c]) - mean[c];
    dx[c] = from_float<T>((g - offset[c] - deviation * slope[c]) * scale[c]);
    if (SHORTCUT) dshortcut[c] = from_float<T>(g);
  }
}

// Two vectors summed over the valid rows: add(begin, end, first, second) adds the rows of one task
// to zeros, join(rows so far, first, second, more rows, their first, their second, channels) takes
// the tasks in their order.
template <typename Add, typename Join>
void reduce_rows(const NormShape& shape, float* first, float* second,
                 const ParallelFor& parallel_for, Add&& add, Join&& join) {
  const int64_t block = rows_per_task(shape.channels);
  const int64_t tasks = (shape.valid + block - 1) / block;
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

// Calls body(row) for the valid rows and clear(begin, rows) for the others.
template <typename Body, typename Clear>
void for_each_row(const NormShape& shape, const ParallelFor& parallel_for, Body&& body,
                  Clear&& clear) {
  for_row_blocks(shape.rows, shape.channels, parallel_for, [&](int64_t begin, int64_t end) {
    const int64_t stop = std::clamp(shape.valid, begin, end);
    for (int64_t row = begin; row < stop; ++row) body(row);
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
void add_moments(const T* x, int64_t stride, int64_t rows, int64_t channels, float* mean,
                 float* m2) {
  std::vector<float> block(2 * channels);
  float* const block_mean = block.data();
  float* const block_m2 = block_mean + channels;
  for (int64_t row = 0; row < rows; row += kMomentRows) {
    const int64_t stop = std::min(row + kMomentRows, rows);
    std::fill_n(block_mean, 2 * channels, 0.0f);
    for_rows_at_once(row, stop, [&](int64_t r, auto many) {
      add_rows<many()>(x + r * stride, stride, channels, block_mean);
    });
    const auto count = static_cast<float>(stop - row);
    for (int64_t c = 0; c < channels; ++c) block_mean[c] /= count;
    for_rows_at_once(row, stop, [&](int64_t r, auto many) {
      add_squares<many()>(x + r * stride, stride, block_mean, channels, block_m2);
    });
    join_moments(row, mean, m2, stop - row, block_mean, block_m2, channels);
  }
}

template <typename T>
void column_moments(const NormShape& shape, const T* x, float* mean, float* m2,
                    const ParallelFor& parallel_for) {
  reduce_rows(
      shape, mean, m2, parallel_for,
      [&](int64_t begin, int64_t end, float* part_mean, float* part_m2) {
        add_moments(x + begin * shape.channels, shape.channels, end - begin, shape.channels,
                    part_mean, part_m2);
      },
      join_moments);
}

template <typename T>
void affine_rows(const NormShape& shape, const T* x, const float* mean, const float* scale,
                 const float* bias, const T* shortcut, bool relu, T* y,
                 const ParallelFor& parallel_for) {
  const int64_t channels = shape.channels;
  with_flags(shortcut != nullptr, relu, [&](auto has_shortcut, auto has_relu) {
    for_each_row(
        shape, parallel_for,
        [&](int64_t row) {
          const int64_t at = row * channels;
          affine_row<has_shortcut(), has_relu()>(x + at, mean, scale, bias,
                                                 has_shortcut() ? shortcut + at : nullptr, channels,
                                                 y + at);
        },
        [&](int64_t begin, int64_t rows) {
          std::fill_n(y + begin * channels, rows * channels, T{});
        });
  });
}

template <typename T>
void finish_rows(const RowAffine<T>& affine, const RowBlock& block, const float* sums,
                 int64_t sums_stride, int64_t channels, T* y) {
  const auto [begin, end, left, right] = block;
  const int64_t stop = std::clamp(affine.valid, begin, end);
  with_flags(affine.shortcut != nullptr, affine.relu, [&](auto has_shortcut, auto has_relu) {
    for (int64_t row = begin; row < stop; ++row) {
      affine_row<has_shortcut(), has_relu()>(
          sums + (row - begin) * sums_stride, affine.mean + left, affine.scale + left,
          affine.bias + left, has_shortcut() ? affine.shortcut + row * channels + left : nullptr,
          right - left, y + (row - begin) * channels);
    }
  });
  for (int64_t row = stop; row < end; ++row) {
    std::fill_n(y + (row - begin) * channels, right - left, T{});
  }
}

template <typename T>
void affine_gradient_sums(const NormShape& shape, const T* dy, const T* y, const T* x,
                          const float* mean, float* sum, float* sum_deviation,
                          const ParallelFor& parallel_for) {
  const int64_t channels = shape.channels;
  auto join = [](int64_t, float* first, float* second, int64_t, const float* more_first,
                 const float* more_second, int64_t count) {
    add_rows<1>(more_first, count, count, first);
    add_rows<1>(more_second, count, count, second);
  };
  with_flags(y != nullptr, false, [&](auto has_relu, auto) {
    reduce_rows(
        shape, sum, sum_deviation, parallel_for,
        [&](int64_t begin, int64_t end, float* part, float* part_deviation) {
          for_rows_at_once(begin, end, [&](int64_t row, auto many) {
            const int64_t at = row * channels;
            add_gradients<many(), has_relu()>(dy + at, has_relu() ? y + at : nullptr, x + at, mean,
                                              channels, part, part_deviation);
          });
        },
        join);
  });
}

template <typename T>
void affine_gradient_rows(const NormShape& shape, const T* dy, const T* y, const T* x,
                          const float* mean, const float* offset, const float* slope,
                          const float* scale, T* dx, T* dshortcut,
                          const ParallelFor& parallel_for) {
  const int64_t channels = shape.channels;
  with_flags(dshortcut != nullptr, y != nullptr, [&](auto has_shortcut, auto has_relu) {
    for_each_row(
        shape, parallel_for,
        [&](int64_t row) {
          const int64_t at = row * channels;
          gradient_row<has_shortcut(), has_relu()>(dy + at, has_relu() ? y + at : nullptr, x + at,
                                                   mean, offset, slope, scale, channels, dx + at,
                                                   has_shortcut() ? dshortcut + at : nullptr);
        },
        [&](int64_t begin, int64_t rows) {
          std::fill_n(dx + begin * channels, rows * channels, T{});
          if (has_shortcut()) std::fill_n(dshortcut + begin * channels, rows * channels, T{});
        });
  });
}

#define UOV_NORM_OF(T)                                                                             \
  template void add_moments<T>(const T*, int64_t, int64_t, int64_t, float*, float*);               \
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
