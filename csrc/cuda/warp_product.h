// What a warp multiplies: 32 rows by some columns of two tiles in shared memory, summed in its
// registers.
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "cuda/shared_tile.h"
#include "cuda/tiles.h"

namespace uov::cuda {

// Fragments of the tensor cores (PTX's m16n8k8 of TF32, m16n8k16 of bfloat16), whose numbers a
// thread has by its lane: of group lane / 4 and member lane % 4. Four registers are of a block of
// sixteen rows or columns and 32 bytes of depth: eight float32 numbers, or sixteen bfloat16 ones,
// two in a register. Of rows, registers 0 and 1 are the first eight and the others at the first
// half of the depth, 2 and 3 at the second; of columns, 0 and 1 are of the first eight at both
// halves of the depth, 2 and 3 of the others.
//
// A factor of `kBlocks` such blocks, `kStride` rows or columns apart. A thread keeps where its
// numbers of the first ones are; the others are a known way from there.
template <typename Tile, typename T, bool kRows, int kBlocks, int kStride>
class Fragments {
 public:
  UOV_DEVICE explicit Fragments(int first) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    UOV_UNROLL
    for (int p = 0; p < kPlaced; ++p) {
      const int index = first + p * kStride;
      if constexpr (kSingle) {
        at_[p][0] = Tile::at(index + lane / 4, lane % 4);
        at_[p][1] = Tile::at(index + 8 + lane / 4, lane % 4);
      } else if constexpr (Tile::kDepthInLine) {
        at_[p][0] = kRows ? Tile::at(index + lane % 16, lane / 16 * Tile::kChunk)
                          : Tile::at(index + lane / 16 * 8 + lane % 8, lane / 8 % 2 * Tile::kChunk);
      } else {
        at_[p][0] = kRows ? Tile::at(index + lane / 8 % 2 * 8, lane / 16 * 8 + lane % 8)
                          : Tile::at(index + lane / 16 * 8, lane % 16);
      }
    }
  }

  // Of block `block` at a depth that is a multiple of what is loaded.
  template <typename Register>
  UOV_DEVICE void load(Register (&r)[4], Shared<const T> tile, int block, int depth) const {
    const int placed = block % kPlaced;
    if constexpr (Tile::kDepthInLine) {
      // A line has kDepth numbers, and chunks change places by an exclusive or.
      load_matrices(r, tile + ((at_[0][0] ^ depth) + block * (kStride * kDepth)));
    } else {
      const int further = (block - placed) * kStride + depth * Tile::kLineNumbers;
      if constexpr (kSingle) {
        UOV_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int half = kRows ? i % 2 : i / 2, deeper = kRows ? i / 2 : i % 2;
          r[i] = tile[at_[placed][half] + further + deeper * 4 * Tile::kLineNumbers];
        }
      } else {
        load_matrices_transposed(r, tile + (at_[placed][0] + further));
      }
    }
  }

 private:
  // Numbers of four bytes cannot be turned over as they are loaded.
  static constexpr bool kSingle = !Tile::kDepthInLine && sizeof(T) == 4;
  static constexpr int kRepeat = Tile::kPeriod / kStride < 1 ? 1 : Tile::kPeriod / kStride;
  static constexpr int kPlaced = kRepeat < kBlocks ? kRepeat : kBlocks;
  static_assert(kStride % Tile::kPeriod == 0 || Tile::kPeriod % kStride == 0);

  int at_[kPlaced][kSingle ? 2 : 1];
};

// kWarpRows x kColumns sums of a warp: of the rows from `row` on, and of every kWarps-th sixteen
// columns of all, for the `warp`-th of as many warps.
template <typename T, typename Multiply, typename Left, typename Right, int kColumns, int kWarps>
class WarpProduct {
 public:
  UOV_DEVICE WarpProduct(int row, int warp) : warp_(warp), left_(row), right_(16 * warp) {}

  // Whether any of its columns is one of the first `columns`.
  UOV_DEVICE bool works(int columns) const { return 16 * warp_ < columns; }

  // Adds the product over the first `depth` numbers.
  UOV_DEVICE void add(Shared<const T> left, Shared<const T> right, int depth) {
    UOV_UNROLL
    for (int d = 0; d < kDepth; d += kStep) {
      if (d < depth) add_step(left, right, d);
    }
  }

  // The rows of a thread's sums, counted from the warp's first. Lanes that are multiples of
  // kSameColumns apart have others of the same columns.
  static constexpr int kRowsOfThread = kWarpRows / 8, kSameColumns = 4;
  static UOV_DEVICE int row_of(int r) {
    return 8 * r + static_cast<int>(threadIdx.x) % kWarp / kSameColumns;
  }

  // Calls change(column, sums) with what this thread has of two columns that follow each other,
  // row by row.
  template <typename Change>
  UOV_DEVICE void change_columns(Change&& change) {
    UOV_UNROLL
    for (int j = 0; j < kColumnBlocks * 2; ++j) {
      float columns[kRowsOfThread][2];
      UOV_UNROLL
      for (int r = 0; r < kRowsOfThread; ++r) {
        UOV_UNROLL
        for (int k = 0; k < 2; ++k) columns[r][k] = sums_[r / 2][j][2 * (r % 2) + k];
      }
      change(column_of(j), columns);
      UOV_UNROLL
      for (int r = 0; r < kRowsOfThread; ++r) {
        UOV_UNROLL
        for (int k = 0; k < 2; ++k) sums_[r / 2][j][2 * (r % 2) + k] = columns[r][k];
      }
    }
  }

  // Calls take(row, column, sums) for all sums of this thread, the row counted from the warp's
  // first, two columns that follow each other at a time.
  template <typename Take>
  UOV_DEVICE void each(Take&& take) const {
    UOV_UNROLL
    for (int i = 0; i < kRowBlocks; ++i) {
      UOV_UNROLL
      for (int half = 0; half < 2; ++half) {
        UOV_UNROLL
        for (int j = 0; j < kColumnBlocks * 2; ++j) {
          const float (&sums)[4] = sums_[i][j];
          const float two[2] = {sums[2 * half], sums[2 * half + 1]};
          take(row_of(2 * i + half), column_of(j), two);
        }
      }
    }
  }

 private:
  static constexpr int kStep = Multiply::kStep;
  static constexpr bool kTf32 = Multiply::kPrecision == Precision::kTf32;
  static constexpr int kRowBlocks = kWarpRows / 16, kColumnBlocks = kColumns / 16;
  static_assert(kColumns % 16 == 0);

  UOV_DEVICE int column_of(int j) const {
    const int member = static_cast<int>(threadIdx.x) % kSameColumns;
    return 16 * (j / 2 * kWarps + warp_) + j % 2 * 8 + member * 2;
  }

  UOV_DEVICE void add_step(Shared<const T> left, Shared<const T> right, int depth) {
    uint32_t a[kRowBlocks][4];
    UOV_UNROLL
    for (int i = 0; i < kRowBlocks; ++i) load_rows(a[i], left, i, depth);
    UOV_UNROLL
    for (int j = 0; j < kColumnBlocks; ++j) {
      uint32_t b[2][2];
      load_columns(b, right, j, depth);
      UOV_UNROLL
      for (int half = 0; half < 2; ++half) {
        UOV_UNROLL
        for (int i = 0; i < kRowBlocks; ++i) {
          if constexpr (kTf32) {
            multiply_tf32(sums_[i][2 * j + half], a[i], b[half]);
          } else {
            multiply_bfloat16(sums_[i][2 * j + half], a[i], b[half]);
          }
        }
      }
    }
  }

  UOV_DEVICE void load_rows(uint32_t (&a)[4], Shared<const T> tile, int block, int depth) const {
    if constexpr (sizeof(T) == 2) {
      left_.load(a, tile, block, depth);
    } else if constexpr (kTf32) {
      float raw[4];
      left_.load(raw, tile, block, depth);
      UOV_UNROLL
      for (int i = 0; i < 4; ++i) a[i] = tf32_bits(raw[i]);
    } else {
      // Which of its sixteen depths a number is at matters to a product as little as it is the same
      // in both factors: what two loads give is paired as it comes.
      float first[4], second[4];
      left_.load(first, tile, block, depth);
      left_.load(second, tile, block, depth + 8);
      UOV_UNROLL
      for (int i = 0; i < 2; ++i) {
        a[i] = bfloat16_pair(first[i], first[i + 2]);
        a[i + 2] = bfloat16_pair(second[i], second[i + 2]);
      }
    }
  }

  UOV_DEVICE void load_columns(uint32_t (&b)[2][2], Shared<const T> tile, int block,
                               int depth) const {
    uint32_t both[4];
    if constexpr (sizeof(T) == 2) {
      right_.load(both, tile, block, depth);
    } else if constexpr (kTf32) {
      float raw[4];
      right_.load(raw, tile, block, depth);
      UOV_UNROLL
      for (int i = 0; i < 4; ++i) both[i] = tf32_bits(raw[i]);
    } else {
      float first[4], second[4];
      right_.load(first, tile, block, depth);
      right_.load(second, tile, block, depth + 8);
      UOV_UNROLL
      for (int i = 0; i < 4; i += 2) {
        both[i] = bfloat16_pair(first[i], first[i + 1]);
        both[i + 1] = bfloat16_pair(second[i], second[i + 1]);
      }
    }
    UOV_UNROLL
    for (int i = 0; i < 4; ++i) b[i / 2][i % 2] = both[i];
  }

  const int warp_;
  const Fragments<Left, T, true, kRowBlocks, 16> left_;
  const Fragments<Right, T, false, kColumnBlocks, 16 * kWarps> right_;
  float sums_[kRowBlocks][kColumnBlocks * 2][4] = {};
};

// The same without tensor cores: eight rows by four columns of sums a thread, which read eight and
// four chunks for 128 multiply-adds. Lanes that read different chunks at a time read different
// banks.
template <typename Left, typename Right, int kWarps>
class WarpProduct<float, PlainFloat32, Left, Right, kWarpRows, kWarps> {
 public:
  UOV_DEVICE WarpProduct(int row, int warp) : row_(row), column_(kWarpRows * warp) {}

  UOV_DEVICE bool works(int columns) const { return column_ < columns; }

  UOV_DEVICE void add(Shared<const float> left, Shared<const float> right, int depth) {
    const int end = depth < kDepth ? depth : kDepth;
    UOV_ROLLED  // for its registers: loads of several passes would be made at once
        for (int d = 0; d < end; d += kStep) {
      float a[kRows][kStep], b[kColumns][kStep];
      load_factor<Left, kRows>(a, left, row_, d, row_of);
      load_factor<Right, kColumns>(b, right, column_, d, column_of);
      UOV_UNROLL
      for (int e = 0; e < kStep; ++e) {
        UOV_UNROLL
        for (int i = 0; i < kRows; ++i) {
          UOV_UNROLL
          for (int j = 0; j < kColumns; ++j) sums_[i][j] += a[i][e] * b[j][e];
        }
      }
    }
  }

  // Rows and columns of a thread. Four of them follow each other where lines have one depth, and
  // else every fourth row or eighth column is its own.
  static constexpr int kRowsOfThread = 8, kSameColumns = 8;
  static UOV_DEVICE int row_of(int i) {
    const int group = static_cast<int>(threadIdx.x) % kWarp / kSameColumns;
    return Left::kDepthInLine ? 4 * i + group : i / 4 * 16 + 4 * group + i % 4;
  }

  template <typename Change>
  UOV_DEVICE void change_columns(Change&& change) {
    constexpr int kTogether = Right::kDepthInLine ? 1 : 2;
    UOV_UNROLL
    for (int j = 0; j < kColumns; j += kTogether) {
      float columns[kRows][kTogether];
      UOV_UNROLL
      for (int r = 0; r < kRows; ++r) {
        UOV_UNROLL
        for (int k = 0; k < kTogether; ++k) columns[r][k] = sums_[r][j + k];
      }
      change(column_ + column_of(j), columns);
      UOV_UNROLL
      for (int r = 0; r < kRows; ++r) {
        UOV_UNROLL
        for (int k = 0; k < kTogether; ++k) sums_[r][j + k] = columns[r][k];
      }
    }
  }

  template <typename Take>
  UOV_DEVICE void each(Take&& take) const {
    UOV_UNROLL
    for (int i = 0; i < kRows; ++i) {
      if constexpr (Right::kDepthInLine) {
        UOV_UNROLL
        for (int j = 0; j < kColumns; ++j) {
          const float one[1] = {sums_[i][j]};
          take(row_of(i), column_ + column_of(j), one);
        }
      } else {
        UOV_UNROLL
        for (int j = 0; j < kColumns; j += 2) {
          const float two[2] = {sums_[i][j], sums_[i][j + 1]};
          take(row_of(i), column_ + column_of(j), two);
        }
      }
    }
  }

 private:
  static constexpr int kStep = PlainFloat32::kStep;
  static constexpr int kRows = kRowsOfThread, kColumns = 4;

  static UOV_DEVICE int column_of(int j) {
    const int member = static_cast<int>(threadIdx.x) % kSameColumns;
    return Right::kDepthInLine ? 8 * j + member : 4 * member + j;
  }

  template <typename Factor, int kCount, typename Place>
  static UOV_DEVICE void load_factor(float (&numbers)[kCount][kStep], Shared<const float> tile,
                                     int first, int depth, Place&& place) {
    if constexpr (Factor::kDepthInLine) {
      UOV_UNROLL
      for (int i = 0; i < kCount; ++i) {
        const auto chunk = load<4>(tile, Factor::at(first + place(i), depth));
        UOV_UNROLL
        for (int e = 0; e < kStep; ++e) numbers[i][e] = chunk.value[e];
      }
    } else {
      UOV_UNROLL
      for (int e = 0; e < kStep; ++e) {
        UOV_UNROLL
        for (int i = 0; i < kCount; i += 4) {
          const auto chunk = load<4>(tile, Factor::at(first + place(i), depth + e));
          UOV_UNROLL
          for (int k = 0; k < 4; ++k) numbers[i + k][e] = chunk.value[k];
        }
      }
    }
  }

  const int row_, column_;
  float sums_[kRows][kColumns] = {};
};

}  // namespace uov::cuda
