// The weight gradient of gather_gemm: products over pairs of rows, by offset and part of its pairs.
//
// A block owns an offset, a tile of its matrix, and every `parts`-th run of kDepth of its pairs. It
// copies rows of x and of dy to shared memory, a run at a time and some runs ahead of the warps
// that multiply them. An offset has parts in proportion to its pairs, and so all offsets pass over
// the rows at one speed: what one reads is in the second-level cache for the others.
//
// What bounds it on an H100: a pair is rows + columns numbers from that cache for rows * columns
// products, 48 a number for 96 x 96 tiles where TF32 needs 110 (tiles.h), so its bytes do: 27
// offsets of 120,000 rows of 96 float32 channels, 0.3 of them there, are 0.8 GB, 0.14 ms at 5.5
// TB/s, beside 0.06 ms of products. The partial sums are 36 KB for each part of such a matrix,
// written and read once: a twentieth of that.
#include <algorithm>
#include <atomic>
#include <type_traits>

#include "core/parallel.h"
#include "cuda/device.h"
#include "cuda/gather_gemm_dw.h"
#include "cuda/product_rows.h"
#include "cuda/shared_tile.h"
#include "cuda/warp_product.h"

namespace uov::cuda {
namespace {

template <typename T>
struct WeightGradient {
  Global<const T> x, dy;
  Global<const int32_t> map, pair_rows, pair_counts;
  Global<float> sums;  // [kernel, parts, channels_in, channels_out]
  Global<int32_t> fault;
  int32_t rows_in, rows_out;
  int kernel, channels_in, channels_out;
  int parts;
  int x_bytes, dy_bytes;  // of copy_chunk
  bool listed;
  bool in_pairs;  // sums may be written two at a time
};

// How many of `parts` an offset with so many pairs has: all if every row has it, one at least.
UOV_DEVICE int parts_of(int64_t pairs, int64_t rows, int parts) {
  const int64_t wanted = (pairs * parts + rows - 1) / rows;
  return static_cast<int>(wanted < 1 ? 1 : wanted > parts ? parts : wanted);
}

// The pairs of a block, which lanes of its first warp read ahead: rows of the result first, from
// those the map's entries, a run later.
template <typename T>
class PairReader {
 public:
  UOV_DEVICE PairReader(const WeightGradient<T>& g, int offset, int pairs, int part, int parts)
      : g_(g),
        offset_(offset),
        pairs_(pairs),
        stride_(parts * kDepth),
        next_(part * kDepth + static_cast<int>(threadIdx.x)) {
    if (!reads()) return;
    read();
    read();
  }

  // Writes the next run's pairs: rows of x and of dy, or -1.
  UOV_DEVICE void put(Shared<int32_t> sources, Shared<int32_t> targets) {
    if (!reads()) return;
    const int lane = static_cast<int>(threadIdx.x);
    const int32_t source = target_ < 0 ? -1 : checked_entry(source_, g_.rows_in, g_.fault);
    sources[lane] = source;
    targets[lane] = source < 0 ? -1 : target_;
    read();
  }

 private:
  static UOV_DEVICE bool reads() { return threadIdx.x < kDepth; }

  UOV_DEVICE void read() {
    const int64_t list = static_cast<int64_t>(offset_) * g_.rows_out;
    target_ = next_target_;
    source_ = target_ < 0 ? -1 : g_.map[list + target_];
    next_target_ = -1;
    if (next_ >= pairs_) return;
    next_target_ = g_.listed ? g_.pair_rows[list + next_] : next_;
    next_ += stride_;
  }

  const WeightGradient<T>& g_;
  const int offset_, pairs_, stride_;
  int next_;
  int32_t target_ = -1, source_ = -1, next_target_ = -1;
};

// Begins to copy columns `first`.. of kDepth rows to a tile.
template <typename Tile, int kThreads, typename T>
UOV_DEVICE void copy_rows(Shared<T> tile, Global<const T> x, Shared<const int32_t> rows,
                          int channels, int first, int bytes) {
  copy_tile<Tile, kThreads, T>(tile, bytes, [&](int line, int inner) {
    const int32_t row = rows[line];
    const int64_t from = static_cast<int64_t>(row) * channels + first + inner;
    return ChunkSource<T>{x + from, row < 0 ? 0 : channels - (first + inner), true};
  });
}

template <typename T, int kTile>
struct GradientLayout {
  static constexpr Tile kShape = kGradientTiles[kTile];
  static constexpr int kThreads = kShape.threads();
  static constexpr int kColumnWarps = kShape.column_warps();
  using Left = SharedTile<T, kShape.rows, false>;
  using Right = SharedTile<T, kShape.columns, false>;
  static constexpr int kStageNumbers = Left::kNumbers + Right::kNumbers;
};

template <typename T, typename Multiply, int kTile>
UOV_KERNEL_OF_MANY(kGradientTiles[kTile].threads(),
                   blocks_together(kGradientTiles[kTile], Multiply::kPrecision, sizeof(T)))
gather_gemm_dw_kernel(WeightGradient<T> g) {
  constexpr Tile kShape = kGradientTiles[kTile];
  constexpr int kStages = kShape.stages;
  using Layout = GradientLayout<T, kTile>;
  using Left = typename Layout::Left;
  using Right = typename Layout::Right;
  UOV_DYNAMIC_SHARED(T, stages);
  // Of two runs: one that is copied and the one after it.
  UOV_SHARED(int32_t, sources, 2 * kDepth);
  UOV_SHARED(int32_t, targets, 2 * kDepth);

  const int k = static_cast<int>(blockIdx.x) % g.kernel;
  const int part = static_cast<int>(blockIdx.x) / g.kernel;
  const int pairs = g.listed ? g.pair_counts[k] : g.rows_out;
  const int parts = parts_of(pairs, g.rows_out, g.parts);
  if (part >= parts) return;
  const int column_tiles = (g.channels_out + kShape.columns - 1) / kShape.columns;
  const int first_row = static_cast<int>(blockIdx.y) / column_tiles * kShape.rows;
  const int first_column = static_cast<int>(blockIdx.y) % column_tiles * kShape.columns;
  const int runs = (pairs + kDepth - 1) / kDepth;
  const int steps = runs <= part ? 0 : (runs - part + parts - 1) / parts;

  PairReader<T> reader(g, k, pairs, part, parts);
  auto put = [&](int step) {
    const int slot = step % 2 * kDepth;
    reader.put(sources + slot, targets + slot);
  };
  auto copy = [&](int step, int stage) {
    if (step >= steps) return;
    const int slot = step % 2 * kDepth;
    const Shared<T> to = stages + stage * Layout::kStageNumbers;
    copy_rows<Left, Layout::kThreads, T>(to, g.x, sources + slot, g.channels_in, first_row,
                                         g.x_bytes);
    copy_rows<Right, Layout::kThreads, T>(to + Left::kNumbers, g.dy, targets + slot, g.channels_out,
                                          first_column, g.dy_bytes);
  };

  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  constexpr int kRowWarps = kShape.rows / kWarpRows;
  const int row = warp % kRowWarps * kWarpRows;
  WarpProduct<T, Multiply, Left, Right, kShape.warp_columns, Layout::kColumnWarps> product(
      row, warp / kRowWarps);
  const bool works =
      first_row + row < g.channels_in && product.works(g.channels_out - first_column);
  UOV_ROLLED
  for (int s = 0; s < kStages - 1; ++s) {
    put(s);
    __syncthreads();
    copy(s, s);
    commit_copies();
  }
  put(kStages - 1);
  int stage = 0;
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<kStages - 2>();
    __syncthreads();
    // All have multiplied what lay in the stage before this one, and have copied the last run.
    copy(step + kStages - 1, stage == 0 ? kStages - 1 : stage - 1);
    commit_copies();
    put(step + kStages);
    if (works) {
      const int64_t first = (static_cast<int64_t>(step) * parts + part) * kDepth;
      const Shared<T> now = stages + stage * Layout::kStageNumbers;
      const int depth = pairs - first < kDepth ? static_cast<int>(pairs - first) : kDepth;
      product.add(now, now + Left::kNumbers, depth);
    }
    stage = stage + 1 < kStages ? stage + 1 : 0;
  }

  if (!works) return;
  const int64_t matrix = static_cast<int64_t>(k) * g.parts + part;
  product.each([&](int i, int j, const auto& sums) {
    const int c = first_row + row + i, first = first_column + j;
    if (c >= g.channels_in || first >= g.channels_out) return;
    write_sums(g.sums, (matrix * g.channels_in + c) * g.channels_out + first, sums,
               g.channels_out - first, g.in_pairs);
  });
}

constexpr int kJoinThreads = 256;

// dw[k] = the sum of its parts, in their order. Bound by its bytes.
UOV_KERNEL(kJoinThreads)
join_parts_kernel(Global<const float> sums, Global<const int32_t> pair_counts, bool listed,
                  int32_t rows, int parts, int64_t matrix, Global<float> dw) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kJoinThreads + threadIdx.x;
  if (i >= matrix) return;
  const int64_t k = blockIdx.y;
  const int there = parts_of(listed ? pair_counts[k] : rows, rows, parts);
  float sum = 0.0f;
  for (int p = 0; p < there; ++p) sum += sums[(k * parts + p) * matrix + i];
  dw[k * matrix + i] = sum;
}

// Parts of an offset that every row has: of kPairs pairs or more, but in all not so many that the
// partial sums of tiles of 128 x 128 would take more than 100 MB.
int parts_of_full_offset(const GatherGemmShape& shape) {
  constexpr int64_t kPairs = 1024, kTileSide = 128, kTiles = 1536;
  const int64_t tiles = shape.kernel * ceil_div(shape.channels_in, kTileSide) *
                        ceil_div(shape.channels_out, kTileSide);
  const int64_t most = std::max<int64_t>(1, kTiles / std::max<int64_t>(1, tiles));
  return static_cast<int>(std::clamp<int64_t>(shape.rows_out / kPairs, 1, most));
}

std::atomic<int> tile_in_use{-1};

int tile_of(const GatherGemmShape& shape, Precision precision) {
  const int wanted = tile_in_use;
  if (wanted >= 0 && wanted < kGradientTileCount && tile_fits(kGradientTiles[wanted], precision)) {
    return wanted;
  }
  return chosen_tile(kGradientChoices, precision, architecture(), shape.rows_out, shape.channels_in,
                     shape.channels_out);
}

template <typename Multiply, typename T, int kTile = 0>
void launch_weight_gradient(Stream stream, const WeightGradient<T>& g, int tile) {
  if constexpr (kTile < kGradientTileCount) {
    if (tile != kTile) {
      launch_weight_gradient<Multiply, T, kTile + 1>(stream, g, tile);
    } else if constexpr (tile_fits(kGradientTiles[kTile], Multiply::kPrecision)) {
      constexpr Tile kShape = kGradientTiles[kTile];
      const int64_t bytes =
          static_cast<int64_t>(sizeof(T)) * kShape.stages * GradientLayout<T, kTile>::kStageNumbers;
      const int64_t tiles =
          ceil_div(g.channels_in, kShape.rows) * ceil_div(g.channels_out, kShape.columns);
      const dim3 blocks(static_cast<unsigned>(g.kernel * g.parts), static_cast<unsigned>(tiles));
      launch(stream, "gather_gemm_dw", gather_gemm_dw_kernel<T, Multiply, kTile>, blocks,
             kShape.threads(), bytes, g);
    }
  }
}

}  // namespace

void use_gradient_tile(int tile) { tile_in_use = tile; }

int64_t gather_gemm_dw_workspace(const GatherGemmShape& shape) {
  const int64_t parts = parts_of_full_offset(shape);
  if (parts == 1) return 0;
  return parts * shape.kernel * shape.channels_in * shape.channels_out *
         static_cast<int64_t>(sizeof(float));
}

template <typename T>
void gather_gemm_dw(Stream stream, const GatherGemmShape& shape, Precision precision, const T* x,
                    const T* dy, const int32_t* map, const PairRows& pairs, float* dw,
                    void* workspace, int32_t* fault) {
  const int64_t matrix = shape.channels_in * shape.channels_out, numbers = shape.kernel * matrix;
  if (numbers == 0) return;
  if (shape.rows_out == 0) return fill_bytes(stream, dw, 0, numbers * sizeof(float));
  if (sizeof(T) == 2) precision = Precision::kBfloat16;
  const int parts = parts_of_full_offset(shape);
  WeightGradient<T> g;
  g.x = global(x, shape.rows_in * shape.channels_in);
  g.dy = global(dy, shape.rows_out * shape.channels_out);
  g.map = global(map, shape.kernel * shape.rows_out);
  g.pair_rows = global(pairs.rows, shape.kernel * shape.rows_out);
  g.pair_counts = global(pairs.counts, shape.kernel);
  float* const sums = parts == 1 ? dw : static_cast<float*>(workspace);
  g.sums = global(sums, parts * numbers);
  g.fault = global(fault, kFaultNumbers);
  g.rows_in = static_cast<int32_t>(shape.rows_in);
  g.rows_out = static_cast<int32_t>(shape.rows_out);
  g.kernel = static_cast<int>(shape.kernel);
  g.channels_in = static_cast<int>(shape.channels_in);
  g.channels_out = static_cast<int>(shape.channels_out);
  g.parts = parts;
  g.x_bytes = bytes_at_once(x, shape.channels_in);
  g.dy_bytes = bytes_at_once(dy, shape.channels_out);
  g.listed = pairs.rows != nullptr;
  g.in_pairs = fits_pairs(sums, shape.channels_out);

  const int tile = tile_of(shape, precision);
  if constexpr (std::is_same_v<T, float>) {
    if (precision == Precision::kFloat32) {
      launch_weight_gradient<PlainFloat32>(stream, g, tile);
    } else if (precision == Precision::kTf32) {
      launch_weight_gradient<TensorCoreTf32>(stream, g, tile);
    } else {
      launch_weight_gradient<TensorCoreBfloat16>(stream, g, tile);
    }
  } else {
    launch_weight_gradient<TensorCoreBfloat16>(stream, g, tile);
  }
  if (parts > 1) {
    const dim3 blocks(static_cast<unsigned>(ceil_div(matrix, kJoinThreads)),
                      static_cast<unsigned>(shape.kernel));
    launch(stream, "gather_gemm_dw join", join_parts_kernel, blocks, kJoinThreads, 0, g.sums,
           g.pair_counts, g.listed, g.rows_out, parts, matrix, global(dw, numbers));
  }
}

template void gather_gemm_dw(Stream, const GatherGemmShape&, Precision, const float*, const float*,
                             const int32_t*, const PairRows&, float*, void*, int32_t*);
template void gather_gemm_dw(Stream, const GatherGemmShape&, Precision, const bfloat16*,
                             const bfloat16*, const int32_t*, const PairRows&, float*, void*,
                             int32_t*);

}  // namespace uov::cuda
