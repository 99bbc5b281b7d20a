#include "core/gather_gemm.h"

#include <algorithm>
#include <vector>

#include "core/product.h"
#include "core/weight_gradient.h"

namespace uov {
namespace {

// Rows whose moments are joined before they are joined to those of the others.
constexpr int64_t kJoinedRows = 32 * kMomentRows;

}  // namespace

template <typename T>
void gather_gemm(const GatherGemmShape& shape, WeightView view, const T* x, const T* w,
                 const int32_t* map, const RowAffine<T>* after, T* y,
                 const ParallelFor& parallel_for) {
  ProductBlocks<T> blocks(shape, view, x, w, map, y, parallel_for.threads());
  parallel_for(blocks.slots(), [&](int64_t k) { blocks.pack(k); });
  parallel_for(blocks.count(), [&](int64_t i) { blocks.compute(i, after, nullptr); });
}

template <typename T>
void gather_gemm_moments(const GatherGemmShape& shape, const T* x, const T* w, const int32_t* map,
                         int64_t valid, T* y, float* mean, float* m2,
                         const ParallelFor& parallel_for) {
  ProductBlocks<T> blocks(shape, {}, x, w, map, y, parallel_for.threads());
  const int64_t channels = shape.channels_out;
  std::vector<float> parts(ceil_div(valid, kMomentRows) * 2 * channels);
  auto part_of = [&](int64_t row) { return parts.data() + row / kMomentRows * 2 * channels; };
  auto rows_from = [&](int64_t row) { return std::min(kMomentRows, valid - row); };
  parallel_for(blocks.slots(), [&](int64_t k) { blocks.pack(k); });
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
  WeightGradient<T> gradient(shape, x, dy, map, dw, parallel_for.threads());
  parallel_for(shape.kernel, [&](int64_t k) { gradient.list(k); });
  parallel_for(gradient.cut(), [&](int64_t i) { gradient.compute(i); });
}

template <typename T>
void gather_gemm_gradients(const GatherGemmShape& shape, const T* x, const T* w, const T* dy,
                           const int32_t* map, const int32_t* back, T* dx, float* dw,
                           const ParallelFor& parallel_for) {
  const bool mirrored = back == nullptr;
  const GatherGemmShape product{shape.kernel, shape.rows_out, shape.rows_in, shape.channels_out,
                                shape.channels_in};
  ProductBlocks<T> blocks(product, {true, mirrored}, dy, w, mirrored ? map : back, dx,
                          parallel_for.threads());
  WeightGradient<T> gradient(shape, x, dy, map, dw, parallel_for.threads());
  const int64_t slots = blocks.slots();
  parallel_for(slots + shape.kernel, [&](int64_t i) {
    if (i < slots) {
      blocks.pack(i);
    } else {
      gradient.list(i - slots);
    }
  });
  // Whichever are larger come first, so that small ones end both at once: the tasks of the weights
  // before blocks of rows, of which the last are small, but few blocks of columns before them.
  const int64_t tasks = gradient.cut();
  const bool blocks_first = blocks.columns();
  const int64_t gradients_from = blocks_first ? blocks.count() : 0;
  const int64_t blocks_from = blocks_first ? 0 : tasks;
  parallel_for(tasks + blocks.count(), [&](int64_t i) {
    if (i >= gradients_from && i < gradients_from + tasks) {
      gradient.compute(i - gradients_from);
    } else {
      blocks.compute(i - blocks_from, nullptr, mirrored ? &gradient.pairs() : nullptr);
    }
  });
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
