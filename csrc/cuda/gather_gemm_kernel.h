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
UOV_DEVICE uint32_t mask_word(const GatherGemm<T>& g, int mask, int word) {
  if (static_cast<int64_t>(mask) * kWarpRows >= g.rows_out) return 0;
  if (g.scheduled) {
    const int words = (g.kernel + kBitsOfWord - 1) / kBitsOfWord;
    return static_cast<uint32_t>(g.masks[static_cast<int64_t>(mask) * words + word]);
  }
  const int bits = g.kernel - kBitsOfWord * word;
  return bits >= kBitsOfWord ? ~0u : (1u << bits) - 1;
}

// Of those the ones of a split: every so many. Which ones does not depend on the rows, so sums are
// the same for any tile.
UOV_DEVICE uint32_t split_word(int splits, int split, int word) {
  if (splits == 1) return ~0u;
  uint32_t bits = 0;
  const int first = word * kBitsOfWord;
  for (int k = first + (splits + split - first % splits) % splits; k < first + kBitsOfWord;
       k += splits) {
    bits |= 1u << (k - first);
  }
  return bits;
}

// The offsets of a split that a tile has, ascending, and whether this warp's rows have them.
template <typename T, int kMasks>
class OffsetWalk {
 public:
  UOV_DEVICE OffsetWalk(const GatherGemm<T>& g, int first_mask, int own_mask, int split)
      : g_(g), first_mask_(first_mask), own_mask_(own_mask), split_(split) {}

  UOV_DEVICE int count() {
    int offsets = 0;
    for (int word = 0; word * kBitsOfWord < g_.kernel; ++word) {
      read(word);
      offsets += __popc(to_come_);
    }
    to_come_ = 0;
    return offsets;
  }

  // To the next one. There must be one.
  UOV_DEVICE void next() {
    while (to_come_ == 0) read(++word_);
    bit_ = __ffs(static_cast<int>(to_come_)) - 1;
    to_come_ &= to_come_ - 1;
  }

  UOV_DEVICE int offset() const { return word_ * kBitsOfWord + bit_; }
  UOV_DEVICE bool own() const { return (own_ >> bit_ & 1u) != 0; }

 private:
  UOV_DEVICE void read(int word) {
    to_come_ = 0;
    UOV_UNROLL
    for (int i = 0; i < kMasks; ++i) {
      const uint32_t bits = mask_word(g_, first_mask_ + i, word);
      to_come_ |= bits;
      if (i == own_mask_) own_ = bits;
    }
    to_come_ &= split_word(g_.splits, split_, word);
  }

  const GatherGemm<T>& g_;
  const int first_mask_, own_mask_, split_;
  int word_ = -1, bit_ = 0;
  uint32_t to_come_ = 0, own_ = 0;
};

// Copies the factors of a block's steps, one after the other.
//
// The map's entries come the same way, as many offsets ahead as there are steps on their way: they
// have landed when the first rows of their offset are copied.
template <typename T, int kTile, bool kTransposed, int kStep>
class GatherGemmSteps {
 public:
  static constexpr Tile kShape = kGatherTiles[kTile];
  static constexpr int kThreads = kShape.threads();
  static constexpr int kColumnWarps = kShape.column_warps();
  using Left = SharedTile<T, kShape.rows, true>;
  using Right = SharedTile<T, kShape.columns, kTransposed>;
  static constexpr int kStageNumbers = Left::kNumbers + Right::kNumbers;
  static constexpr int kEntries = kShape.stages * kShape.rows;

  // `rows`: of the tile, -1 past the last; `entries`: kEntries of the map.
  UOV_DEVICE GatherGemmSteps(const GatherGemm<T>& g, Shared<const int32_t> rows,
                             Shared<int32_t> entries, int tile, int split, int first_column)
      : g_(g),
        rows_(rows),
        entries_(entries),
        first_column_(first_column),
        walk_(g, tile * kMasks, static_cast<int>(threadIdx.x) / kWarp % kMasks, split) {
    offsets_ = to_read_ = walk_.count();
    for (int i = 0; i < kAhead; ++i) read_entries();
  }

  UOV_DEVICE int count() const { return offsets_ * ((g_.channels_in + kDepth - 1) / kDepth); }

  // Begins to copy the next step; true if this warp's rows have its offset.
  UOV_DEVICE bool copy(Shared<T> stage) {
    if (channel_ == 0) read_entries();
    const int left = g_.channels_in - channel_;
    const int depth = left < kDepth ? left : kDepth;
    const int padded = (depth + kStep - 1) / kStep * kStep;
    copy_rows(stage, depth, padded);
    copy_weights(stage + Left::kNumbers, depth, padded);
    channel_ = left > kDepth ? channel_ + kDepth : 0;
    return (queue_[0] & 1) != 0;
  }

 private:
  static constexpr int kMasks = kShape.rows / kWarpRows;
  static constexpr int kChunk = Left::kChunk;
  static constexpr int kAhead = kShape.stages - 1;

  // Begins to copy the entries of the offset after those that were read.
  UOV_DEVICE void read_entries() {
    UOV_UNROLL
    for (int i = 0; i < kAhead; ++i) queue_[i] = queue_[i + 1];
    if (to_read_ > 0) {
      --to_read_;
      walk_.next();
      queue_[kAhead] = walk_.offset() * 2 + (walk_.own() ? 1 : 0);
      const int64_t slot = static_cast<int64_t>(walk_.offset()) * g_.rows_out;
      for (int i = static_cast<int>(threadIdx.x); i < kShape.rows; i += kThreads) {
        const int32_t row = rows_[i];
        if (row < 0) {
          entries_[place_ + i] = -1;
        } else {
          copy_async<4>(entries_ + (place_ + i), g_.map + (slot + row), true);
        }
      }
    }
    place_ = place_ + kShape.rows < kEntries ? place_ + kShape.rows : 0;
  }

  UOV_DEVICE void copy_rows(Shared<T> tile, int depth, int padded) {
    // The entries after those that are read now are the ones read first.
    const Shared<const int32_t> entries = entries_ + place_;
    copy_chunks<Left::kLines * Left::kChunks, kThreads, T>(g_.row_bytes, [&](int i) {
      const int line = i / Left::kChunks, c = i % Left::kChunks, inner = c * kChunk;
      const int32_t source = checked_entry(entries[line], g_.rows_in, g_.fault);
      const int64_t from = static_cast<int64_t>(source) * g_.channels_in + channel_ + inner;
      return CopiedChunk<T>{tile + Left::chunk(line, c), g_.x + from,
                            source < 0 ? 0 : depth - inner, inner < padded};
    });
  }

  UOV_DEVICE void copy_weights(Shared<T> tile, int depth, int padded) {
    const int offset = queue_[0] / 2, k = g_.mirrored ? g_.kernel - 1 - offset : offset;
    const int64_t matrix = static_cast<int64_t>(k) * g_.channels_in * g_.channels_out;
    copy_chunks<Right::kLines * Right::kChunks, kThreads, T>(g_.weight_bytes, [&](int i) {
      const int line = i / Right::kChunks, c = i % Right::kChunks, inner = c * kChunk;
      const Shared<T> to = tile + Right::chunk(line, c);
      if constexpr (kTransposed) {
        const int column = first_column_ + line;
        const int64_t from = static_cast<int64_t>(column) * g_.channels_in + channel_ + inner;
        return CopiedChunk<T>{to, g_.w + (matrix + from),
                              column < g_.channels_out ? depth - inner : 0, inner < padded};
      } else {
        const int column = first_column_ + inner;
        const int64_t from = static_cast<int64_t>(channel_ + line) * g_.channels_out + column;
        return CopiedChunk<T>{to, g_.w + (matrix + from),
                              line < depth ? g_.channels_out - column : 0, line < padded};
      }
    });
  }

  const GatherGemm<T>& g_;
  const Shared<const int32_t> rows_;
  const Shared<int32_t> entries_;
  const int first_column_;
  OffsetWalk<T, kMasks> walk_;
  int offsets_, to_read_;
  int place_ = 0, channel_ = 0;
  // Twice an offset, and whether this warp's rows have it: of the one that is copied, and those
  // whose entries were read since.
  int queue_[kAhead + 1] = {};
};

template <typename T, typename Multiply, int kTile, bool kTransposed>
UOV_KERNEL_OF_MANY(kGatherTiles[kTile].threads(), kGatherTiles[kTile].blocks())
gather_gemm_kernel(GatherGemm<T> g) {
  constexpr Tile kShape = kGatherTiles[kTile];
  constexpr int kStages = kShape.stages;
  using Steps = GatherGemmSteps<T, kTile, kTransposed, Multiply::kStep>;
  using Left = typename Steps::Left;
  using Right = typename Steps::Right;
  UOV_DYNAMIC_SHARED(T, stages);
  UOV_SHARED(int32_t, rows, kShape.rows);
  UOV_SHARED(int32_t, entries, Steps::kEntries);

  // Rows with more neighbours are towards the end: they come first, and no long block last.
  const int tile = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  const int split = static_cast<int>(blockIdx.y) % g.splits;
  const int first_column = static_cast<int>(blockIdx.y) / g.splits * kShape.columns;
  for (int i = static_cast<int>(threadIdx.x); i < kShape.rows; i += Steps::kThreads) {
    const int64_t n = static_cast<int64_t>(tile) * kShape.rows + i;
    rows[i] = n >= g.rows_out ? -1 : g.scheduled ? g.order[n] : static_cast<int32_t>(n);
  }
  __syncthreads();

  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  constexpr int kMasks = kShape.rows / kWarpRows;
  const int row = warp % kMasks * kWarpRows;
  WarpProduct<T, Multiply, Left, Right, kShape.warp_columns, Steps::kColumnWarps> product(
      row, warp / kMasks);
  const bool works = product.works(g.channels_out - first_column);
  Steps steps(g, rows, entries, tile, split, first_column);
  commit_copies();
  wait_for_copies<0>();
  const int count = steps.count();
  uint32_t own = 0;  // by stage: whether this warp has something to multiply
  UOV_UNROLL
  for (int s = 0; s < kStages - 1; ++s) {
    __syncthreads();  // entries are there, and those before them have been used
    if (s < count && steps.copy(stages + s * Steps::kStageNumbers)) own |= 1u << s;
    commit_copies();
  }
  int stage = 0, channel = 0;
  for (int step = 0; step < count; ++step) {
    wait_for_copies<kStages - 2>();
    __syncthreads();
    // All have multiplied what lay there before.
    const int free = stage == 0 ? kStages - 1 : stage - 1;
    own &= ~(1u << free);
    if (step + kStages - 1 < count && steps.copy(stages + free * Steps::kStageNumbers)) {
      own |= 1u << free;
    }
    commit_copies();
    if (works && (own >> stage & 1u) != 0) {
      const Shared<T> now = stages + stage * Steps::kStageNumbers;
      product.add(now, now + Left::kNumbers, g.channels_in - channel);
    }
    channel = channel + kDepth < g.channels_in ? channel + kDepth : 0;
    stage = stage + 1 < kStages ? stage + 1 : 0;
  }

  const bool together = g.channels_out % 2 == 0;
  product.each([&](int i, int j, const auto& sums) {
    const int32_t n = rows[row + i];
    const int first = first_column + j, there = g.channels_out - first;
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
