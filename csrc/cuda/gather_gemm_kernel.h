// The kernel of gather_gemm, an implicit product of gathered rows, and how it is launched.
//
// A block owns a tile of rows, in the schedule's order, and of columns. It passes over the offsets
// that its rows have and over their channels, kDepth at a time: rows of x and weights are copied to
// shared memory, some steps ahead of the warps that multiply them. Warps own 32 rows, those of one
// mask, and leave out what none of these has.
//
// What bounds it on an H100: tiles.h has bytes and operations of a step. A map's entries are read
// one at a time, 32 bytes for 4 where the schedule took neighbouring rows apart: up to 0.1 of the
// bytes of rows of 96 float32 channels, more of narrower ones. With 32 channels or fewer in and out
// the gathers bound it, not the products: 8 operations a byte. float32 products without tensor
// cores are bound by their 67 TFLOP/s, at any width above 16.
//
// The centre offset of a submanifold map needs nothing of its own: every row has it, so its steps
// have no padding, and its gathers read each row whole, as a plain product would. What that would
// save is the map's entries; what it would cost is to write and read y once more.
#pragma once

#include <cstdint>

#include "core/parallel.h"
#include "cuda/device.h"
#include "cuda/gather_gemm_launch.h"
#include "cuda/launch.h"
#include "cuda/product_rows.h"
#include "cuda/shared_tile.h"
#include "cuda/tiles.h"
#include "cuda/warp_product.h"

namespace uov::cuda {

// Bits of the offsets 32 * word.. that some row of a mask has; all where there is no schedule.
template <typename T>
UOV_DEVICE uint32_t mask_word(const GatherGemm<T>& g, int64_t mask, int word) {
  if (mask * kWarpRows >= g.rows_out) return 0;
  if (g.scheduled) {
    const int words = (g.kernel + kBitsOfWord - 1) / kBitsOfWord;
    return static_cast<uint32_t>(g.masks[mask * words + word]);
  }
  const int bits = g.kernel - kBitsOfWord * word;
  return bits >= kBitsOfWord ? ~0u : (1u << bits) - 1;
}

// The offsets of a tile, ascending, and whether this warp's rows have them.
template <typename T, int kMasks>
class OffsetWalk {
 public:
  UOV_DEVICE OffsetWalk(const GatherGemm<T>& g, int64_t first_mask, int own_mask)
      : g_(g), first_mask_(first_mask), own_mask_(own_mask) {}

  UOV_DEVICE int count() const {
    int offsets = 0;
    for (int word = 0; word * kBitsOfWord < g_.kernel; ++word) {
      uint32_t bits = 0;
      UOV_UNROLL
      for (int i = 0; i < kMasks; ++i) bits |= mask_word(g_, first_mask_ + i, word);
      offsets += __popc(bits);
    }
    return offsets;
  }

  // To the next one. There must be one.
  UOV_DEVICE void next() {
    while (to_come_ == 0) {
      ++word_;
      UOV_UNROLL
      for (int i = 0; i < kMasks; ++i) {
        const uint32_t bits = mask_word(g_, first_mask_ + i, word_);
        to_come_ |= bits;
        if (i == own_mask_) own_ = bits;
      }
    }
    bit_ = __ffs(static_cast<int>(to_come_)) - 1;
    to_come_ &= to_come_ - 1;
  }

  UOV_DEVICE int offset() const { return word_ * kBitsOfWord + bit_; }
  UOV_DEVICE bool own() const { return (own_ >> bit_ & 1u) != 0; }

 private:
  const GatherGemm<T>& g_;
  const int64_t first_mask_;
  const int own_mask_;
  int word_ = -1, bit_ = 0;
  uint32_t to_come_ = 0, own_ = 0;
};

// Copies the factors of a block's steps, one after the other.
template <typename T, int kTile, bool kTransposed, int kStep>
class GatherGemmSteps {
 public:
  static constexpr Tile kShape = kGatherTiles[kTile];
  using Left = SharedTile<T, kShape.rows, true>;
  using Right = SharedTile<T, kShape.columns, kTransposed>;
  static constexpr int kStageNumbers = Left::kNumbers + Right::kNumbers;

  UOV_DEVICE GatherGemmSteps(const GatherGemm<T>& g, Shared<const int32_t> rows, int64_t tile,
                             int split, int first_column)
      : g_(g),
        rows_(rows),
        first_column_(first_column),
        walk_(g, tile * kMasks, static_cast<int>(threadIdx.x) / kWarp % kMasks) {
    const int offsets = walk_.count();
    const int begin = static_cast<int>(static_cast<int64_t>(offsets) * split / g.splits);
    const int end = static_cast<int>(static_cast<int64_t>(offsets) * (split + 1) / g.splits);
    for (int i = 0; i < begin; ++i) walk_.next();
    offsets_ = to_come_ = end - begin;
    look_ahead();
  }

  UOV_DEVICE int count() const { return offsets_ * ((g_.channels_in + kDepth - 1) / kDepth); }

  // Begins to copy the next step, where there is one; true if this warp's rows have its offset.
  UOV_DEVICE bool copy(Shared<T> stage) {
    if (channel_ == 0) {
      if (to_come_ == 0) return false;
      begin_offset();
    }
    const int left = g_.channels_in - channel_;
    const int depth = left < kDepth ? left : kDepth;
    const int padded = (depth + kStep - 1) / kStep * kStep;
    copy_rows(stage, depth, padded);
    copy_weights(stage + Left::kNumbers, depth, padded);
    channel_ = left > kDepth ? channel_ + kDepth : 0;
    return own_;
  }

 private:
  static constexpr int kMasks = kShape.rows / kWarpRows;
  static constexpr int kThreads = kShape.threads();
  static constexpr int kChunk = Left::kChunk;
  // A thread copies one chunk of a row, of every so many rows.
  static constexpr int kRowsAtOnce = kThreads / Left::kChunks;
  static constexpr int kRows = kShape.rows / kRowsAtOnce;
  static_assert(kThreads % Left::kChunks == 0 && kShape.rows % kRowsAtOnce == 0);

  UOV_DEVICE int own_line(int i) const {
    return static_cast<int>(threadIdx.x) / Left::kChunks + i * kRowsAtOnce;
  }

  // Reads the map at the offset after this one: it is there when its first step is copied.
  UOV_DEVICE void look_ahead() {
    if (to_come_ == 0) return;
    walk_.next();
    const int64_t slot = static_cast<int64_t>(walk_.offset()) * g_.rows_out;
    UOV_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const int32_t row = rows_[own_line(i)];
      next_[i] = row < 0 ? -1 : g_.map[slot + row];
    }
  }

  UOV_DEVICE void begin_offset() {
    --to_come_;
    offset_ = walk_.offset();
    own_ = walk_.own();
    UOV_UNROLL
    for (int i = 0; i < kRows; ++i) source_[i] = checked_entry(next_[i], g_.rows_in, g_.fault);
    look_ahead();
  }

  UOV_DEVICE void copy_rows(Shared<T> tile, int depth, int padded) {
    const int c = static_cast<int>(threadIdx.x) % Left::kChunks, inner = c * kChunk;
    if (inner >= padded) return;
    UOV_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const int64_t from = static_cast<int64_t>(source_[i]) * g_.channels_in + channel_ + inner;
      copy_chunk<T>(tile + Left::chunk(own_line(i), c), g_.x + from,
                    source_[i] < 0 ? 0 : depth - inner, g_.row_bytes);
    }
  }

  UOV_DEVICE void copy_weights(Shared<T> tile, int depth, int padded) {
    const int k = g_.mirrored ? g_.kernel - 1 - offset_ : offset_;
    const int64_t matrix = static_cast<int64_t>(k) * g_.channels_in * g_.channels_out;
    constexpr int kCopies = Right::kLines * Right::kChunks;
    UOV_UNROLL
    for (int first = 0; first < kCopies; first += kThreads) {
      const int i = first + static_cast<int>(threadIdx.x);
      if (kCopies % kThreads != 0 && i >= kCopies) break;
      const int line = i / Right::kChunks, c = i % Right::kChunks, inner = c * kChunk;
      if ((kTransposed ? inner : line) >= padded) continue;
      int64_t from;
      int there;
      if constexpr (kTransposed) {
        const int column = first_column_ + line;
        from = matrix + static_cast<int64_t>(column) * g_.channels_in + channel_ + inner;
        there = column < g_.channels_out ? depth - inner : 0;
      } else {
        const int column = first_column_ + inner;
        from = matrix + static_cast<int64_t>(channel_ + line) * g_.channels_out + column;
        there = line < depth ? g_.channels_out - column : 0;
      }
      copy_chunk<T>(tile + Right::chunk(line, c), g_.w + from, there, g_.weight_bytes);
    }
  }

  const GatherGemm<T>& g_;
  const Shared<const int32_t> rows_;
  const int first_column_;
  OffsetWalk<T, kMasks> walk_;
  int offsets_, to_come_;
  int offset_ = 0, channel_ = 0;
  bool own_ = false;
  int32_t source_[kRows], next_[kRows];
};

template <typename T, typename Multiply, int kTile, bool kTransposed>
UOV_KERNEL(kGatherTiles[kTile].threads())
gather_gemm_kernel(GatherGemm<T> g) {
  constexpr Tile kShape = kGatherTiles[kTile];
  constexpr int kStages = kShape.stages;
  using Steps = GatherGemmSteps<T, kTile, kTransposed, Multiply::kStep>;
  using Left = typename Steps::Left;
  using Right = typename Steps::Right;
  UOV_DYNAMIC_SHARED(T, stages);
  UOV_SHARED(int32_t, rows, kShape.rows);

  // Rows with more neighbours are towards the end: they come first, and no long block last.
  const int64_t tile = static_cast<int64_t>(gridDim.x) - 1 - blockIdx.x;
  const int split = static_cast<int>(blockIdx.y) % g.splits;
  const int first_column = static_cast<int>(blockIdx.y) / g.splits * kShape.columns;
  for (int i = static_cast<int>(threadIdx.x); i < kShape.rows; i += kShape.threads()) {
    const int64_t n = tile * kShape.rows + i;
    rows[i] = n >= g.rows_out ? -1 : g.scheduled ? g.order[n] : static_cast<int32_t>(n);
  }
  __syncthreads();

  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  constexpr int kMasks = kShape.rows / kWarpRows;
  const int row = warp % kMasks * kWarpRows, column = warp / kMasks * kShape.warp_columns;
  const bool has_columns = first_column + column < g.channels_out;
  WarpProduct<T, Multiply, Left, Right, kShape.warp_columns> product;
  Steps steps(g, rows, tile, split, first_column);
  uint32_t own = 0;  // by stage: whether this warp has something to multiply
  UOV_UNROLL
  for (int s = 0; s < kStages - 1; ++s) {
    if (steps.copy(stages + s * Steps::kStageNumbers)) own |= 1u << s;
    commit_copies();
  }
  const int count = steps.count();
  int stage = 0, channel = 0;
  for (int step = 0; step < count; ++step) {
    wait_for_copies<kStages - 2>();
    __syncthreads();
    // All have multiplied what lay there before.
    const int free = stage == 0 ? kStages - 1 : stage - 1;
    own &= ~(1u << free);
    if (steps.copy(stages + free * Steps::kStageNumbers)) own |= 1u << free;
    commit_copies();
    if (has_columns && (own >> stage & 1u) != 0) {
      const Shared<T> now = stages + stage * Steps::kStageNumbers;
      product.add(now, row, now + Left::kNumbers, column, g.channels_in - channel);
    }
    channel = channel + kDepth < g.channels_in ? channel + kDepth : 0;
    stage = stage + 1 < kStages ? stage + 1 : 0;
  }

  const bool together = g.channels_out % 2 == 0;
  product.each([&](int i, int j, const auto& sums) {
    const int32_t n = rows[row + i];
    const int first = first_column + column + j, there = g.channels_out - first;
    if (n < 0 || there <= 0) return;
    const int64_t at = static_cast<int64_t>(n) * g.channels_out + first;
    if (g.splits == 1) {
      write_sums(g.y, at, sums, there, together);
    } else {
      const int64_t part = static_cast<int64_t>(split) * g.rows_out * g.channels_out;
      write_sums(g.partials, part + at, sums, there, together);
    }
  });
}

// The kernel of a tile: one whose `tile_fits` this way to multiply.
template <typename Multiply, typename T, int kTile = 0>
void launch_gather_gemm(Stream stream, const GatherGemm<T>& g, int tile, bool transposed) {
  if constexpr (kTile < kGatherTileCount) {
    if (tile != kTile) {
      launch_gather_gemm<Multiply, T, kTile + 1>(stream, g, tile, transposed);
    } else if constexpr (tile_fits(kGatherTiles[kTile], Multiply::kPrecision)) {
      constexpr Tile kShape = kGatherTiles[kTile];
      using Steps = GatherGemmSteps<T, kTile, false, Multiply::kStep>;
      using Transposed = GatherGemmSteps<T, kTile, true, Multiply::kStep>;
      const int64_t numbers = transposed ? Transposed::kStageNumbers : Steps::kStageNumbers;
      const int64_t bytes = kShape.stages * numbers * static_cast<int64_t>(sizeof(T));
      const dim3 blocks(static_cast<unsigned>(ceil_div(g.rows_out, kShape.rows)),
                        static_cast<unsigned>(ceil_div(g.channels_out, kShape.columns) * g.splits));
      launch(stream, "gather_gemm",
             transposed ? gather_gemm_kernel<T, Multiply, kTile, true>
                        : gather_gemm_kernel<T, Multiply, kTile, false>,
             blocks, kShape.threads(), bytes, g);
    }
  }
}

}  // namespace uov::cuda
