#include "core/gather_gemm.h"

#include <algorithm>
#include <vector>

#include "core/product.h"
#include "core/weight_gradient.h"
#include "core/word_rows.h"

namespace uov {
namespace {

// Rows whose moments are joined before they are joined to those of the others.
constexpr int64_t kJoinedRows = 32 * kMomentRows;

// Tasks 0..count-1 of one kind.
struct Tasks {
  int64_t count;
  ParallelFor::Task run;
};

// Runs the tasks of all kinds in one loop.
void run_together(const std::vector<Tasks>& kinds, const ParallelFor& parallel_for) {
  int64_t all = 0;
  for (const Tasks& kind : kinds) all += kind.count;
  parallel_for(all, [&](int64_t i) {
    for (const Tasks& kind : kinds) {
      if (i < kind.count) return kind.run(i);
      i -= kind.count;
    }
  });
}

template <typename T>
Tasks packing(ProductBlocks<T>& blocks) {
  return {blocks.slots(), [&](int64_t k) { blocks.pack(k); }};
}

template <typename T>
Tasks copying(WordRows<T>& rows) {
  return {rows.tasks(), [&](int64_t i) { rows.copy(i); }};
}

template <typename T>
Tasks listing(WeightGradient<T>& gradient, int64_t kernel) {
  return {kernel, [&](int64_t k) { gradient.list(k); }};
}

// Whether the words of rows of T are float32 numbers, so that the weight gradient is one of these.
template <typename T>
bool words_are_numbers() {
  return row_kernels<T>().channels_per_word == 1;
}

// Both gradients, once the tasks of `before` and those that belong to them have run.
template <typename T, typename Factor>
void compute_together(ProductBlocks<T>& blocks, WeightGradient<Factor>& gradient, int64_t kernel,
                      bool mirrored, std::vector<Tasks> before, const ParallelFor& parallel_for) {
  before.push_back(packing(blocks));
  before.push_back(listing(gradient, kernel));
  run_together(before, parallel_for);
  const Tasks sums{gradient.cut(), [&](int64_t i) { gradient.compute(i); }};
  const Tasks products{blocks.count(), [&](int64_t i) {
                         blocks.compute(i, nullptr, mirrored ? &gradient.pairs() : nullptr);
                       }};
  // Whichever are larger come first, so that small ones end both at once: the tasks of the weights
  // before blocks of rows, of which the last are small, but few blocks of columns before them.
  if (blocks.columns()) {
    run_together({products, sums}, parallel_for);
  } else {
    run_together({sums, products}, parallel_for);
  }
}

}  // namespace

template <typename T>
void gather_gemm(const GatherGemmShape& shape, WeightView view, const T* x, const T* w,
                 const int32_t* map, const RowAffine<T>* after, T* y,
                 const ParallelFor& parallel_for) {
  WordRows<T> rows(x, shape.rows_in, shape.channels_in);
  ProductBlocks<T> blocks(shape, view, rows.words(), w, map, y, parallel_for.threads());
  run_together({packing(blocks), copying(rows)}, parallel_for);
  parallel_for(blocks.count(), [&](int64_t i) { blocks.compute(i, after, nullptr); });
}

template <typename T>
void gather_gemm_moments(const GatherGemmShape& shape, const T* x, const T* w, const int32_t* map,
                         int64_t valid, T* y, float* mean, float* m2,
                         const ParallelFor& parallel_for) {
  WordRows<T> words(x, shape.rows_in, shape.channels_in);
  ProductBlocks<T> blocks(shape, {}, words.words(), w, map, y, parallel_for.threads());
  const int64_t channels = shape.channels_out;
  std::vector<float> parts(ceil_div(valid, kMomentRows) * 2 * channels);
  auto part_of = [&](int64_t row) { return parts.data() + row / kMomentRows * 2 * channels; };
  auto rows_from = [&](int64_t row) { return std::min(kMomentRows, valid - row); };
  run_together({packing(blocks), copying(words)}, parallel_for);
  parallel_for(blocks.count(), [&](int64_t i) {
    blocks.compute(i, nullptr, nullptr);
    const auto [begin, end, left, right] = blocks.block(i);
    for (int64_t row = begin; row < std::min(end, valid); row += kMomentRows) {
      float* part = part_of(row) + left;
      few_moments(y + row * channels + left, channels, rows_from(row), right - left, part,
                  part + channels);
    }
  });
  // In two levels: a single chain of sums over very many rows would lose digits.
  std::fill_n(mean, channels, 0.0f);
  std::fill_n(m2, channels, 0.0f);
  std::vector<float> joined(2 * channels);
  for (int64_t first = 0; first < valid; first += kJoinedRows) {
    const int64_t last = std::min(first + kJoinedRows, valid);
    std::fill(joined.begin(), joined.end(), 0.0f);
    for (int64_t row = first; row < last; row += kMomentRows) {
      const float* part = part_of(row);
      join_moments(row - first, joined.data(), joined.data() + channels, rows_from(row), part,
                   part + channels, channels);
    }
    join_moments(first, mean, m2, last - first, joined.data(), joined.data() + channels, channels);
  }
}

template <typename T>
void gather_gemm_dw(const GatherGemmShape& shape, const T* x, const T* dy, const int32_t* map,
                    float* dw, const ParallelFor& parallel_for) {
  const int64_t threads = parallel_for.threads();
  if (words_are_numbers<T>()) {
    WordRows<T> left(x, shape.rows_in, shape.channels_in);
    WordRows<T> right(dy, shape.rows_out, shape.channels_out);
    WeightGradient<float> gradient(shape, left.words().at, right.words().at, map, dw, threads);
    run_together({copying(left), copying(right), listing(gradient, shape.kernel)}, parallel_for);
    parallel_for(gradient.cut(), [&](int64_t i) { gradient.compute(i); });
  } else {
    WeightGradient<T> gradient(shape, x, dy, map, dw, threads);
    run_together({listing(gradient, shape.kernel)}, parallel_for);
    parallel_for(gradient.cut(), [&](int64_t i) { gradient.compute(i); });
  }
}

template <typename T>
void gather_gemm_gradients(const GatherGemmShape& shape, const T* x, const T* w, const T* dy,
                           const int32_t* map, const int32_t* back, T* dx, float* dw,
                           const ParallelFor& parallel_for) {
  const bool mirrored = back == nullptr;
  const int64_t threads = parallel_for.threads();
  const GatherGemmShape product{shape.kernel, shape.rows_out, shape.rows_in, shape.channels_out,
                                shape.channels_in};
  WordRows<T> right(dy, shape.rows_out, shape.channels_out);
  ProductBlocks<T> blocks(product, {true, mirrored}, right.words(), w, mirrored ? map : back, dx,
                          threads);
  if (words_are_numbers<T>()) {
    WordRows<T> left(x, shape.rows_in, shape.channels_in);
    WeightGradient<float> gradient(shape, left.words().at, right.words().at, map, dw, threads);
    compute_together(blocks, gradient, shape.kernel, mirrored, {copying(left), copying(right)},
                     parallel_for);
  } else {
    WeightGradient<T> gradient(shape, x, dy, map, dw, threads);
    compute_together(blocks, gradient, shape.kernel, mirrored, {copying(right)}, parallel_for);
  }
}

#define UOV_GATHER_GEMM_OF(T)                                                                      \
  template void gather_gemm<T>(const GatherGemmShape&, WeightView, const T*, const T*,             \
                               const int32_t*, const RowAffine<T>*, T*, const ParallelFor&);       \
  template void gather_gemm_moments<T>(const GatherGemmShape&, const T*, const T*, const int32_t*, \
                                       int64_t, T*, float*, float*, const ParallelFor&);           \
  template void gather_gemm_dw<T>(const GatherGemmShape&, const T*, const T*, const int32_t*,      \
                                  float*, const ParallelFor&);                                     \
  template void gather_gemm_gradients<T>(const GatherGemmShape&, const T*, const T*, const T*,     \
                                         const int32_t*, const int32_t*, T*, float*,               \
                                         const ParallelFor&);
UOV_GATHER_GEMM_OF(float)
UOV_GATHER_GEMM_OF(bfloat16)
#undef UOV_GATHER_GEMM_OF

}  // namespace uov
