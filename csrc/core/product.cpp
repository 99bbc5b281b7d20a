#include "core/product.h"

#include <unistd.h>

#include <algorithm>

#include "core/kernels.h"

namespace uov {
namespace {

// An output block is sized to stay in the second-level cache while all offsets pass over it: it has
// half of it, but not more or less than these.
constexpr int64_t kBlockBytesAtLeast = 256 * 1024;
constexpr int64_t kBlockBytesAtMost = 1024 * 1024;
// Every block reads all weights, so blocks are as large as the cache allows. Towards the end they
// become smaller: the rows that are left would make at least so many blocks for each thread, so
// that none has a large one to finish alone. But they are not so small that few of their rows use a
// slab of weights. All begin at a multiple of kMomentRows, so that moments do not depend on them.
constexpr int64_t kBlocksOfRest = 2;
constexpr int64_t kBlockRowsAtLeast = 2 * kMomentRows;
// Of few rows there are few blocks, and each reads all weights. Products of them are cut into
// columns then, if they are this wide or if there are more threads than blocks: a task has some of
// the columns, of all rows unless there are still more threads, and packs their weights itself.
constexpr int64_t kFewRows = 2048;
constexpr int64_t kWideChannels = 256;
constexpr int64_t kColumnsOfTask = 64;
constexpr int64_t kFloatBytes = sizeof(float);

int64_t whole_moments(int64_t rows) { return ceil_div(rows, kMomentRows) * kMomentRows; }

int64_t block_bytes() {
#ifdef _SC_LEVEL2_CACHE_SIZE
  static const int64_t half = sysconf(_SC_LEVEL2_CACHE_SIZE) / 2;
#else
  constexpr int64_t half = 512 * 1024;
#endif
  return std::clamp(half, kBlockBytesAtLeast, kBlockBytesAtMost);
}

// Appends the blocks of a product of few rows: one or a few for each thread, as far as there are
// tiles of columns and blocks of rows for them.
void cut_columns(int64_t rows, int64_t channels, int64_t tile_columns, int64_t threads,
                 std::vector<RowBlock>& blocks) {
  const int64_t share = ceil_div(ceil_div(channels, threads), tile_columns) * tile_columns;
  const int64_t width = std::min(share, kColumnsOfTask);
  const int64_t parts = ceil_div(threads, ceil_div(channels, width));
  const int64_t height = std::max(whole_moments(ceil_div(rows, parts)), kBlockRowsAtLeast);
  for (int64_t begin = 0; begin < rows; begin += height) {
    for (int64_t left = 0; left < channels; left += width) {
      blocks.push_back(
          {begin, std::min(begin + height, rows), left, std::min(left + width, channels)});
    }
  }
}

}  // namespace

ProductCut cut_product(const GatherGemmShape& shape, const int32_t* map, int64_t tile_columns,
                       int64_t threads) {
  ProductCut cut;
  const int64_t rows = shape.rows_out, channels = shape.channels_out;
  if (rows == 0 || channels == 0) return cut;
  const int64_t used = cut.used = std::min(rows, whole_moments(used_rows(shape, map)));
  const bool few_blocks = used / kBlockRowsAtLeast < threads && channels >= 2 * tile_columns;
  cut.columns = used <= kFewRows && (channels >= kWideChannels || few_blocks);
  const int64_t cached =
      whole_moments(std::max(kBlockRowsAtLeast, block_bytes() / kFloatBytes / channels));
  if (cut.columns) {
    cut_columns(used, channels, tile_columns, threads, cut.blocks);
  } else {
    for (int64_t begin = 0; begin < used; begin = cut.blocks.back().end) {
      const int64_t share = whole_moments(ceil_div(used - begin, kBlocksOfRest * threads));
      const int64_t wanted = std::clamp(share, kBlockRowsAtLeast, cached);
      cut.blocks.push_back({begin, std::min(begin + wanted, used), 0, channels});
    }
  }
  for (int64_t begin = used; begin < rows; begin += cached) {
    cut.blocks.push_back({begin, std::min(begin + cached, rows), 0, channels});
  }
  return cut;
}

namespace {

// One block of a product, whose first number is at y. `packed` are the weights of all slots, or
// null if they are to be packed here; `lists`, where they are known, are the pairs of the map.
template <typename T>
void convolve_block(const GatherGemmShape& shape, const PackedWeights<T>& weights,
                    const float* packed, const Words& x, const int32_t* map, const PairLists* lists,
                    const RowBlock& block, float* y, int64_t y_stride) {
  const RowKernels<T>& inner = row_kernels<T>();
  // Not structured bindings: C++17 lets no lambda capture those.
  const int64_t begin = block.begin, end = block.end, left = block.left, right = block.right;
  const int64_t width = right - left;
  thread_local std::vector<int32_t> target, source;
  if (lists == nullptr) {
    target.resize(end - begin + kSpare);
    source.resize(end - begin + kSpare);
  }
  auto pairs_of = [&](int64_t k) {
    if (lists != nullptr) return lists->between(k, begin, end);
    const int64_t count = existing_pairs(shape, map, k, begin, end, target.data(), source.data());
    return Pairs{target.data(), source.data(), count};
  };
  // Where row 0 of the result would be: lists count from there. Only rows of the block are touched.
  float* const origin = lists != nullptr ? y - begin * y_stride : y;
  const int64_t slot_words = weights.words(left, right);
  float* own = packed == nullptr ? thread_panel(Factor::kRight, slot_words) : nullptr;
  // The middle slot starts the sums of the rows it reaches without a zero being written and read
  // again: in a submanifold map all of them.
  const int64_t centre = shape.kernel / 2;
  const int32_t* reached = map + centre * shape.rows_out;
  for (int64_t n = begin; n < end; ++n) {
    if (reached[n] < 0) std::fill_n(y + (n - begin) * y_stride, width, 0.0f);
  }
  for (int64_t i = 0; i < shape.kernel; ++i) {
    const int64_t k = i == 0 ? centre : i <= centre ? i - 1 : i;
    const Pairs pairs = pairs_of(k);
    if (pairs.count == 0) continue;
    if (own != nullptr) weights.pack(k, left, right, own);
    const float* slot = own != nullptr ? own : packed + k * slot_words;
    for (int64_t first = 0; first < shape.channels_in; first += weights.panel_channels()) {
      const int64_t depth = std::min(weights.panel_channels(), shape.channels_in - first);
      for (int64_t p = 0; p < pairs.count; p += kPanelRows) {
        const int64_t rows = std::min<int64_t>(kPanelRows, pairs.count - p);
        const Rows factor{x.at + first / inner.channels_per_word, x.stride, pairs.source + p};
        const int64_t following = pairs.count - p - rows;
        inner.multiply.rows(factor, static_cast<int>(rows), static_cast<int>(following),
                            inner.words(depth), slot + weights.offset(first, left, right),
                            static_cast<int>(width), origin, pairs.target + p, y_stride,
                            i > 0 || first > 0);
      }
    }
  }
}

// Where a block accumulates, and the step to its next row: in the result itself, or in scratch when
// that is narrower than float32.
struct Sums {
  float* at;
  int64_t stride;
};
inline Sums sums_of(float* y, int64_t stride, const RowBlock&) { return {y, stride}; }
inline Sums sums_of(bfloat16*, int64_t, const RowBlock& block) {
  const int64_t width = block.right - block.left;
  return {thread_accumulator((block.end - block.begin) * width), width};
}
inline void finish(const Sums&, const RowBlock&, float*, int64_t) {}
inline void finish(const Sums& sums, const RowBlock& block, bfloat16* y, int64_t stride) {
  row_kernels<bfloat16>().sum.round(sums.at, sums.stride, block.end - block.begin,
                                    block.right - block.left, y, stride);
}

}  // namespace

template <typename T>
ProductBlocks<T>::ProductBlocks(const GatherGemmShape& shape, WeightView view, Words x, const T* w,
                                const int32_t* map, T* y, int64_t threads)
    : shape_(shape),
      x_(x),
      map_(map),
      y_(y),
      weights_(shape, view, w),
      cut_(cut_product(shape, map, row_kernels<T>().tile_columns, threads)),
      slots_(cut_.used == 0 || cut_.columns ? 0 : shape.kernel),
      packed_(slots_ > 0 ? aligned_floats(slots_ * slot_words()) : nullptr) {}

template <typename T>
void ProductBlocks<T>::compute(int64_t i, const RowAffine<T>* after, const PairLists* lists) const {
  const RowBlock& block = this->block(i);
  const int64_t stride = shape_.channels_out;
  const Sums sums = sums_of(result(i), stride, block);
  if (block.begin >= cut_.used || shape_.channels_in == 0) {
    for (int64_t n = 0; n < block.end - block.begin; ++n) {
      std::fill_n(sums.at + n * sums.stride, block.right - block.left, 0.0f);
    }
  } else {
    convolve_block(shape_, weights_, packed_.get(), x_, map_, lists, block, sums.at, sums.stride);
  }
  if (after != nullptr) {
    finish_rows(*after, block, sums.at, sums.stride, stride, result(i));
  } else {
    finish(sums, block, result(i), stride);
  }
}

template class ProductBlocks<float>;
template class ProductBlocks<bfloat16>;

}  // namespace uov
