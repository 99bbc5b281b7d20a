// How products are cut into blocks: the one table of tiles, by size, precision and architecture.
//
// What the table is filled from, until it is measured. A step of a block reads kDepth channels of
// `rows` gathered rows and of `columns` columns of weights, (rows * found + columns) * kDepth
// numbers from the second-level cache (`found`: the share of its rows that have the offset, 0.5 to
// 0.6 in the order of a schedule), and does rows * columns * kDepth products. An H100 takes 5.5
// TB/s from that cache and 300 TFLOP/s of TF32 through mma.sync (600 of bfloat16, of half the
// bytes): they balance at 110 products for each float32 number, which 128 x 128 tiles (80), 128 x
// 96 (70) and 64 x 64 (40) do not reach. Hence tiles are as wide as the result, up to 128, and 128
// rows high where that makes a block for each of an A100's 108 or an H100's 132 processors. A wider
// tile than the result is no use: its columns past the end are multiplied too.
#pragma once

#include <cstdint>

namespace uov::cuda {

// What numbers are multiplied as; sums are float32. The values are those of the ops' attribute.
enum class Precision : int32_t { kFloat32 = 0, kTf32 = 1, kBfloat16 = 2 };

// How they are multiplied, with the depth that is multiplied at once: tiles in shared memory hold
// whole multiples of it. Kernels that are of a TensorCore... use the tensor cores, others do not.
struct PlainFloat32 {
  static constexpr Precision kPrecision = Precision::kFloat32;
  static constexpr int kStep = 4;
};
struct TensorCoreTf32 {
  static constexpr Precision kPrecision = Precision::kTf32;
  static constexpr int kStep = 8;
};
struct TensorCoreBfloat16 {
  static constexpr Precision kPrecision = Precision::kBfloat16;
  static constexpr int kStep = 16;
};

inline constexpr int kWarp = 32;
// Rows of one mask of a schedule, and of a warp's sums: a warp leaves out an offset that none of
// its rows has.
inline constexpr int kWarpRows = 32;
inline constexpr int kBitsOfWord = 32;
// Numbers along the sums of one step: 32 channels, or 32 pairs of a weight gradient.
inline constexpr int kDepth = 32;

// What a block sums up. `stages` steps lie in its shared memory: one that is multiplied and those
// that are on their way.
struct Tile {
  int rows, columns, warp_columns, stages;

  constexpr int column_warps() const { return columns / warp_columns; }
  constexpr int warps() const { return rows / kWarpRows * column_warps(); }
  constexpr int threads() const { return warps() * kWarp; }
};

// Blocks that have room on a processor by their registers: sixteen warps with 128 of them a thread.
// Rounding float32 to bfloat16 takes more than that of the warps with the most sums.
constexpr int blocks_together(const Tile& tile, Precision precision, int bytes) {
  const bool rounds = precision == Precision::kBfloat16 && bytes == 4;
  return rounds && tile.warp_columns > 48 ? 8 / tile.warps() : 16 / tile.warps();
}

// Of gather_gemm: rows of the result x channels of the result. With two stages of float32, and not
// three, two blocks of 128 x 96 or 128 x 128 have room in the shared memory of an A100's processor.
inline constexpr Tile kGatherTiles[] = {
    {64, 64, 32, 3}, {128, 32, 32, 3}, {128, 64, 32, 3}, {128, 96, 48, 2}, {128, 128, 64, 2},
};
inline constexpr int kGatherTileCount = sizeof(kGatherTiles) / sizeof(Tile);
// Of gather_gemm_dw: channels of x x channels of dy.
inline constexpr Tile kGradientTiles[] = {{64, 64, 32, 3}, {96, 96, 48, 2}, {128, 128, 64, 2}};
inline constexpr int kGradientTileCount = sizeof(kGradientTiles) / sizeof(Tile);

// Products without tensor cores are summed by warps of 32 x 32 alone.
constexpr bool tile_fits(const Tile& tile, Precision precision) {
  return precision != Precision::kFloat32 || tile.warp_columns == kWarpRows;
}

// A tile, and from what on it is for: architecture (as __CUDA_ARCH__), rows of the result, channels
// of x and of the result. The first line that all of them reach is taken.
struct TileChoice {
  Precision precision;
  int architecture;
  int64_t rows, channels_in, channels_out;
  int tile;
};

inline constexpr TileChoice kGatherChoices[] = {
    // Products without tensor cores take so long that bytes do not count: only columns past the
    // end.
    {Precision::kFloat32, 800, 16384, 1, 97, 2},  {Precision::kFloat32, 800, 0, 1, 97, 0},
    {Precision::kFloat32, 800, 8192, 1, 65, 1},   {Precision::kFloat32, 800, 16384, 1, 33, 2},
    {Precision::kFloat32, 800, 0, 1, 33, 0},      {Precision::kFloat32, 800, 8192, 1, 1, 1},
    {Precision::kFloat32, 800, 0, 1, 1, 0},

    {Precision::kTf32, 800, 8192, 1, 193, 4},     {Precision::kTf32, 800, 8192, 1, 129, 3},
    {Precision::kTf32, 800, 16384, 1, 97, 4},     {Precision::kTf32, 800, 16384, 1, 65, 3},
    {Precision::kTf32, 800, 16384, 1, 33, 2},     {Precision::kTf32, 800, 16384, 1, 1, 1},
    {Precision::kTf32, 800, 0, 1, 1, 0},

    {Precision::kBfloat16, 800, 8192, 1, 193, 4}, {Precision::kBfloat16, 800, 8192, 1, 129, 3},
    {Precision::kBfloat16, 800, 16384, 1, 97, 4}, {Precision::kBfloat16, 800, 16384, 1, 65, 3},
    {Precision::kBfloat16, 800, 16384, 1, 33, 2}, {Precision::kBfloat16, 800, 16384, 1, 1, 1},
    {Precision::kBfloat16, 800, 0, 1, 1, 0},
};

// A weight gradient's parts make blocks enough of any tile but for the fewest rows.
inline constexpr TileChoice kGradientChoices[] = {
    {Precision::kFloat32, 800, 0, 1, 1, 0},

    {Precision::kTf32, 800, 4096, 97, 65, 2},     {Precision::kTf32, 800, 4096, 65, 97, 2},
    {Precision::kTf32, 800, 4096, 65, 65, 1},     {Precision::kTf32, 800, 0, 1, 1, 0},

    {Precision::kBfloat16, 800, 4096, 97, 65, 2}, {Precision::kBfloat16, 800, 4096, 65, 97, 2},
    {Precision::kBfloat16, 800, 4096, 65, 65, 1}, {Precision::kBfloat16, 800, 0, 1, 1, 0},
};

// The tile of a table for a product of these sizes.
template <int N>
constexpr int chosen_tile(const TileChoice (&table)[N], Precision precision, int architecture,
                          int64_t rows, int64_t channels_in, int64_t channels_out) {
  for (const TileChoice& choice : table) {
    if (choice.precision == precision && choice.architecture <= architecture &&
        choice.rows <= rows && choice.channels_in <= channels_in &&
        choice.channels_out <= channels_out) {
      return choice.tile;
    }
  }
  return 0;
}

template <int N, int M>
constexpr bool choices_fit(const TileChoice (&table)[N], const Tile (&tiles)[M]) {
  for (const TileChoice& choice : table) {
    if (choice.tile < 0 || choice.tile >= M) return false;
    if (!tile_fits(tiles[choice.tile], choice.precision)) return false;
  }
  return true;
}
static_assert(choices_fit(kGatherChoices, kGatherTiles));
static_assert(choices_fit(kGradientChoices, kGradientTiles));

}  // namespace uov::cuda
