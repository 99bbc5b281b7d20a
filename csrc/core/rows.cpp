#include "core/rows.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/kernels.h"

namespace uov {
namespace {

void check_index(const char* what, const int32_t* index, int64_t count, int64_t rows) {
  for (int64_t m = 0; m < count; ++m) {
    if (index[m] >= rows || index[m] < -1) {
      throw std::out_of_range(std::string(what) + "[" + std::to_string(m) + "] is " +
                              std::to_string(index[m]) + ", expected -1 or a row below " +
                              std::to_string(rows));
    }
  }
}

// Positions m grouped by target row, in the order of m within a row: a stable counting sort.
struct Groups {
  std::vector<int64_t> start;  // [rows + 1]
  std::vector<int32_t> member;

  Groups(const int32_t* source, const int32_t* target, int64_t count, int64_t rows)
      : start(rows + 1, 0) {
    auto used = [&](int64_t m) { return target[m] >= 0 && (source == nullptr || source[m] >= 0); };
    for (int64_t m = 0; m < count; ++m) {
      if (used(m)) ++start[target[m] + 1];
    }
    for (int64_t row = 0; row < rows; ++row) start[row + 1] += start[row];
    member.resize(start[rows]);
    std::vector<int64_t> next(start.begin(), start.end() - 1);
    for (int64_t m = 0; m < count; ++m) {
      if (used(m)) member[next[target[m]]++] = source ? source[m] : static_cast<int32_t>(m);
    }
  }
};

// Sums go straight into a float32 result, through a float32 row into a narrower one.
inline float* sum_row(float* y, std::vector<float>&) { return y; }
inline float* sum_row(bfloat16*, std::vector<float>& scratch) { return scratch.data(); }
inline void finish_row(const float*, int64_t, float*) {}
inline void finish_row(const float* sum, int64_t channels, bfloat16* y) {
  for (int64_t c = 0; c < channels; ++c) y[c] = from_float<bfloat16>(sum[c]);
}

// Independent partial sums, which a compiler may put into vectors without reordering anything.
float dot(const float* a, const float* b, int64_t n) {
  constexpr int64_t kParts = 16;
  float part[kParts] = {};
  int64_t c = 0;
  for (; c + kParts <= n; c += kParts) {
    for (int64_t i = 0; i < kParts; ++i) part[i] += a[c + i] * b[c + i];
  }
  float sum = 0.0f;
  for (; c < n; ++c) sum += a[c] * b[c];
  for (float p : part) sum += p;
  return sum;
}

}  // namespace

template <typename T>
void gather_rows(const T* x, int64_t rows, int64_t channels, const int32_t* index, int64_t count,
                 T* y, const ParallelFor& parallel_for) {
  check_index("index", index, count, rows);
  for_row_blocks(count, channels, parallel_for, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      T* out = y + m * channels;
      if (index[m] < 0) {
        std::fill_n(out, channels, T{});
      } else {
        std::copy_n(x + int64_t{index[m]} * channels, channels, out);
      }
    }
  });
}

template <typename T>
void gather_scatter_rows(const T* x, int64_t rows_in, int64_t channels, const int32_t* source,
                         const int32_t* target, int64_t count, T* y, int64_t rows_out,
                         const ParallelFor& parallel_for) {
  if (source != nullptr) check_index("source", source, count, rows_in);
  check_index("target", target, count, rows_out);
  const Groups groups(source, target, count, rows_out);
  const RowKernels<T>& inner = row_kernels<T>();
  for_row_blocks(rows_out, channels, parallel_for, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(channels);
    for (int64_t row = begin; row < end; ++row) {
      float* sum = sum_row(y + row * channels, scratch);
      const int64_t first = groups.start[row];
      inner.sum.rows(x, channels, groups.member.data() + first, groups.start[row + 1] - first,
                     groups.start[rows_out] - first, sum);
      finish_row(sum, channels, y + row * channels);
    }
  });
}

void unit_rows(const float* x, int64_t rows, int64_t channels, int64_t count, float* y,
               float* inverse, const ParallelFor& parallel_for) {
  for_row_blocks(rows, channels, parallel_for, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const float* row = x + n * channels;
      float* out = y + n * channels;
      const float length = n < count ? std::sqrt(dot(row, row, channels)) : 0.0f;
      if (length < kShortestRow) {
        inverse[n] = 0.0f;
        std::fill_n(out, channels, 0.0f);
      } else {
        // A length of infinity must not become an inverse of zero, which would hide it.
        inverse[n] = std::isinf(length) ? std::numeric_limits<float>::quiet_NaN() : 1.0f / length;
        for (int64_t c = 0; c < channels; ++c) out[c] = row[c] * inverse[n];
      }
    }
  });
}

void unit_rows_gradient(const float* dy, const float* y, const float* inverse, int64_t rows,
                        int64_t channels, int64_t count, float* dx,
                        const ParallelFor& parallel_for) {
  for_row_blocks(rows, channels, parallel_for, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const float* slope = dy + n * channels;
      const float* unit = y + n * channels;
      float* out = dx + n * channels;
      if (n >= count || inverse[n] == 0.0f) {
        std::fill_n(out, channels, 0.0f);
        continue;
      }
      const float along = dot(slope, unit, channels);
      for (int64_t c = 0; c < channels; ++c) out[c] = (slope[c] - unit[c] * along) * inverse[n];
    }
  });
}

template void gather_rows<float>(const float*, int64_t, int64_t, const int32_t*, int64_t, float*,
                                 const ParallelFor&);
template void gather_rows<bfloat16>(const bfloat16*, int64_t, int64_t, const int32_t*, int64_t,
                                    bfloat16*, const ParallelFor&);
template void gather_scatter_rows<float>(const float*, int64_t, int64_t, const int32_t*,
                                         const int32_t*, int64_t, float*, int64_t,
                                         const ParallelFor&);
template void gather_scatter_rows<bfloat16>(const bfloat16*, int64_t, int64_t, const int32_t*,
                                            const int32_t*, int64_t, bfloat16*, int64_t,
                                            const ParallelFor&);

}  // namespace uov
