// The kernel of gather_gemm, an implicit product of gathered rows, and how it is launched.
//
// A block owns a tile of rows, in the schedule's order, and of columns. It passes over the offsets
// that its rows have and over their channels, kDepth at a time: rows of x and weights are copied to
// shared memory, some steps ahead of the warps that multiply them. Warps own 32 rows, those of one
// mask, and leave out what none of these has.
//
// What bounds it on an H100: tiles.h has bytes and operations of a step. A map's entries are read
// one at a time, 32 bytes for 4 where the schedule took neighbouring rows apart: a sixth of the
// bytes of rows of 96 float32 channels, as much as those of 16. With 32 channels or fewer in and
// out the gathers bound it, not the products: 16 operations a byte, 88 TFLOP/s at 5.5 TB/s. float32
// products without tensor cores are bound by their 67 TFLOP/s from 32 channels on.
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
#include "cuda/product_epilogues.h"
#include "cuda/product_rows.h"
#include "cuda/shared_tile.h"
#include "cuda/tiles.h"
#include "cuda/warp_product.h"

namespace uov::cuda {

// Bits of the offsets 32 * word.. that some row of a mask has; all where there is no schedule.
template <typename T>
UOV_DEVICE uint32_t mask_word(const GatherGemm<T>& g, int64_t mask, int word) {
  if (mask * kWarpRows >= g.rows_out) return 0;
  if (!g.scheduled) return ~0u;
  const int words = (g.kernel + kBitsOfWord - 1) / kBitsOfWord;
  return static_cast<uint32_t>(g.masks[mask * words + word]);
}

// An offset that a tile has: its number, and which of the tile's masks have it.
struct TileOffset {
  static constexpr int kMasks = 4;  // at most

  int32_t code;
  UOV_DEVICE int number() const { return code >> kMasks; }
  UOV_DEVICE bool in(int mask) const { return (code >> mask & 1) != 0; }
};

// Writes those of a split, ascending, and `kBehind` of -1; returns how many there are. Splits have
// every so many offsets, whatever the rows: so sums are the same for any tile. Called by a warp.
template <int kMasks, int kBehind, typename T>
UOV_DEVICE int list_offsets(const GatherGemm<T>& g, int tile, int split, Shared<int32_t> list) {
  static_assert(kMasks <= TileOffset::kMasks);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  int count = 0;
  for (int word = 0; word * kBitsOfWord < g.kernel; ++word) {
    const int k = word * kBitsOfWord + lane;
    int32_t masks = 0;
    UOV_UNROLL
    for (int m = 0; m < kMasks; ++m) {
      const uint32_t bits = mask_word(g, static_cast<int64_t>(tile) * kMasks + m, word);
      masks |= static_cast<int32_t>(bits >> lane & 1u) << m;
    }
    const bool taken = masks != 0 && k < g.kernel && k % g.splits == split;
    const uint32_t lanes = __ballot_sync(~0u, taken);
    if (taken) {
      list[count + __popc(lanes & ((1u << lane) - 1))] = k << TileOffset::kMasks | masks;
    }
    count += __popc(lanes);
  }
  if (lane < kBehind) list[count + lane] = -1;
  return count;
}

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

  static constexpr int kAhead = kShape.stages - 1;

  // `rows`: of the tile, -1 past the last; `offsets`: of the tile, kAhead of -1 behind; `entries`:
  // kEntries of the map.
  UOV_DEVICE GatherGemmSteps(const GatherGemm<T>& g, Shared<const int32_t> rows,
                             Shared<const int32_t> offsets, Shared<int32_t> entries,
                             int first_column)
      : g_(g), rows_(rows), offsets_(offsets), entries_(entries), first_column_(first_column) {
    for (int i = 0; i < kAhead; ++i) read_entries(i);
  }

  // Begins to copy the next step.
  UOV_DEVICE void copy(Shared<T> stage) {
    if (channel_ == 0) {
      read_entries(next_ + kAhead);
      ++next_;
      check_entries();
    }
    const int left = g_.channels_in - channel_;
    const int depth = left < kDepth ? left : kDepth;
    const int padded = (depth + kStep - 1) / kStep * kStep;
    copy_rows(stage, depth, padded);
    copy_weights(stage + Left::kNumbers, depth, padded);
    channel_ = left > kDepth ? channel_ + kDepth : 0;
  }

 private:
  // Begins to copy the entries of the i-th offset.
  UOV_DEVICE void read_entries(int i) {
    const TileOffset offset{offsets_[i]};
    if (offset.code >= 0) {
      const int64_t slot = static_cast<int64_t>(offset.number()) * g_.rows_out;
      for (int r = static_cast<int>(threadIdx.x); r < kShape.rows; r += kThreads) {
        const int32_t row = rows_[r];
        if (row < 0) {
          entries_[place_ + r] = -1;
        } else {
          copy_async<4>(entries_ + (place_ + r), g_.map + (slot + row), true);
        }
      }
    }
    place_ = place_ + kShape.rows < kEntries ? place_ + kShape.rows : 0;
  }

  // Of the offset that is copied: those that will be overwritten next were read first.
  UOV_DEVICE Shared<const int32_t> entries() const { return entries_ + place_; }

  UOV_DEVICE void check_entries() const {
    const Shared<const int32_t> entries = this->entries();
    for (int r = static_cast<int>(threadIdx.x); r < kShape.rows; r += kThreads) {
      checked_entry(entries[r], g_.rows_in, g_.fault);
    }
  }

  UOV_DEVICE void copy_rows(Shared<T> tile, int depth, int padded) const {
    const Shared<const int32_t> entries = this->entries();
    copy_tile<Left, kThreads, T>(tile, g_.row_bytes, [&](int line, int inner) {
      const int32_t source = entries[line];
      const bool there = source >= 0 && source < g_.rows_in;
      const int64_t from = static_cast<int64_t>(source) * g_.channels_in + channel_ + inner;
      return ChunkSource<T>{g_.x + from, there ? depth - inner : 0, inner < padded};
    });
  }

  UOV_DEVICE void copy_weights(Shared<T> tile, int depth, int padded) const {
    const int offset = TileOffset{offsets_[next_ - 1]}.number();
    const int k = g_.mirrored ? g_.kernel - 1 - offset : offset;
    const int64_t matrix = static_cast<int64_t>(k) * g_.channels_in * g_.channels_out;
    copy_tile<Right, kThreads, T>(tile, g_.weight_bytes, [&](int line, int inner) {
      if constexpr (kTransposed) {
        const int column = first_column_ + line;
        const int64_t from = static_cast<int64_t>(column) * g_.channels_in + channel_ + inner;
        return ChunkSource<T>{g_.w + (matrix + from), column < g_.channels_out ? depth - inner : 0,
                              inner < padded};
      } else {
        const int column = first_column_ + inner;
        const int64_t from = static_cast<int64_t>(channel_ + line) * g_.channels_out + column;
        return ChunkSource<T>{g_.w + (matrix + from), line < depth ? g_.channels_out - column : 0,
                              line < padded};
      }
    });
  }

  const GatherGemm<T>& g_;
  const Shared<const int32_t> rows_, offsets_;
  const Shared<int32_t> entries_;
  const int first_column_;
  int next_ = 0, channel_ = 0;  // of the next step; while an offset has more of them, of that after
  int place_ = 0;               // of the entries that are read next
};

template <typename T, typename Multiply, int kTile, bool kTransposed>
UOV_KERNEL_OF_MANY(kGatherTiles[kTile].threads(),
                   blocks_together(kGatherTiles[kTile], Multiply::kPrecision, sizeof(T)))
gather_gemm_kernel(GatherGemm<T> g) {
  constexpr Tile kShape = kGatherTiles[kTile];
  constexpr int kStages = kShape.stages, kMasks = kShape.rows / kWarpRows;
  using Steps = GatherGemmSteps<T, kTile, kTransposed, Multiply::kStep>;
  using Left = typename Steps::Left;
  using Right = typename Steps::Right;
  // Stages, and the tile's offsets behind them.
  UOV_DYNAMIC_SHARED(int32_t, memory);
  const Shared<T> stages = shared_as<T>(memory);
  const Shared<int32_t> offsets =
      memory + static_cast<int>(kStages * Steps::kStageNumbers * sizeof(T) / sizeof(int32_t));
  UOV_SHARED(int32_t, rows, kShape.rows);
  UOV_SHARED(int32_t, entries, Steps::kEntries);
  UOV_SHARED(int32_t, offset_count, 1);

  // Rows with more neighbours are towards the end: they come first, and no long block last.
  const int tile = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  const int split = static_cast<int>(blockIdx.y) % g.splits;
  const int first_column = static_cast<int>(blockIdx.y) / g.splits * kShape.columns;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  if (warp == 0) {
    const int found = list_offsets<kMasks, Steps::kAhead>(g, tile, split, offsets);
    if (threadIdx.x == 0) offset_count[0] = found;
  }
  for (int i = static_cast<int>(threadIdx.x); i < kShape.rows; i += Steps::kThreads) {
    const int64_t n = static_cast<int64_t>(tile) * kShape.rows + i;
    rows[i] = n >= g.rows_out ? -1 : g.scheduled ? g.order[n] : static_cast<int32_t>(n);
  }
  __syncthreads();

  const int row = warp % kMasks * kWarpRows;
  WarpProduct<T, Multiply, Left, Right, kShape.warp_columns, Steps::kColumnWarps> product(
      row, warp / kMasks);
  const bool works = product.works(g.channels_out - first_column);
  const int count = offset_count[0] * ((g.channels_in + kDepth - 1) / kDepth);
  Steps steps(g, rows, offsets, entries, first_column);
  commit_copies();
  wait_for_copies<0>();
  UOV_ROLLED
  for (int s = 0; s < kStages - 1; ++s) {
    __syncthreads();  // entries are there, and those before them have been used
    if (s < count) steps.copy(stages + s * Steps::kStageNumbers);
    commit_copies();
  }
  int stage = 0, offset = 0, channel = 0;
  for (int step = 0; step < count; ++step) {
    wait_for_copies<kStages - 2>();
    __syncthreads();
    // All have multiplied what lay in the stage before this one.
    const int free = stage == 0 ? kStages - 1 : stage - 1;
    if (step + kStages - 1 < count) steps.copy(stages + free * Steps::kStageNumbers);
    commit_copies();
    if (works && TileOffset{offsets[offset]}.in(warp % kMasks)) {
      const Shared<T> now = stages + stage * Steps::kStageNumbers;
      product.add(now, now + Left::kNumbers, g.channels_in - channel);
    }
    channel += kDepth;
    if (channel >= g.channels_in) {
      channel = 0;
      ++offset;
    }
    stage = stage + 1 < kStages ? stage + 1 : 0;
  }

  if constexpr (!kTransposed) {
    // Where offsets are shared out, the affine map is left to those who join them.
    if (works && g.splits == 1 && g.epilogue == Epilogue::kAffine) {
      apply_affine(product, g, rows + row, first_column);
    } else if (works && g.epilogue == Epilogue::kMoments) {
      const int64_t mask = static_cast<int64_t>(tile) * kMasks + warp % kMasks;
      take_moments(product, g, rows + row, mask, first_column, first_column + warp / kMasks == 0);
    }
  }
  auto write_all = [&](auto to, int64_t part) {
    product.each([&](int i, int j, const auto& sums) {
      const int32_t n = rows[row + i];
      const int first = first_column + j, there = g.channels_out - first;
      if (n < 0 || there <= 0) return;
      write_sums(to, part + static_cast<int64_t>(n) * g.channels_out + first, sums, there,
                 g.in_pairs);
    });
  };
  if (g.splits == 1) {
    write_all(g.y, 0);
  } else {
    write_all(g.partials, static_cast<int64_t>(split) * g.rows_out * g.channels_out);
  }
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
      const int64_t bytes = kShape.stages * numbers * static_cast<int64_t>(sizeof(T)) +
                            (g.kernel + Steps::kAhead) * static_cast<int64_t>(sizeof(int32_t));
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
