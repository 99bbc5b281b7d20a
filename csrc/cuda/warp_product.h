// What a warp multiplies: 32 rows by some columns of two tiles in shared memory, summed in its
// registers.
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "cuda/shared_tile.h"
#include "cuda/tiles.h"

namespace uov::cuda {

// Fragments of the tensor cores (PTX's m16n8k8 of TF32, m16n8k16 of bfloat16), whose numbers a
// thread has by its lane: of group lane / 4 and member lane % 4. 32 bytes of depth at a time: eight
// float32 numbers, or sixteen bfloat16 ones, two in a register.
//
// Sixteen rows of the left factor: registers 0 and 1 are of rows 0.. and 8.. at the first half of
// the depth, 2 and 3 at the second.
template <typename Left, typename T, typename Register>
UOV_DEVICE void load_left(Register (&a)[4], Shared<const T> tile, int row, int depth) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if constexpr (Left::kDepthInLine) {
    load_matrices(a, tile + Left::at(row + lane % 16, depth + lane / 16 * Left::kChunk));
  } else if constexpr (sizeof(T) == 2) {
    load_matrices_transposed(
        a, tile + Left::at(row + lane / 8 % 2 * 8, depth + lane / 16 * 8 + lane % 8));
  } else {
    UOV_UNROLL
    for (int i = 0; i < 4; ++i) {
      a[i] = tile[Left::at(row + i % 2 * 8 + lane / 4, depth + i / 2 * 4 + lane % 4)];
    }
  }
}

// Sixteen columns of the right factor, two fragments: registers 0 and 1 are of the first eight
// columns at the first and the second half of the depth, 2 and 3 of the others.
template <typename Right, typename T, typename Register>
UOV_DEVICE void load_right(Register (&b)[4], Shared<const T> tile, int column, int depth) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if constexpr (Right::kDepthInLine) {
    load_matrices(b, tile + Right::at(column + lane / 16 * 8 + lane % 8,
                                      depth + lane / 8 % 2 * Right::kChunk));
  } else if constexpr (sizeof(T) == 2) {
    load_matrices_transposed(b, tile + Right::at(column + lane / 16 * 8, depth + lane % 16));
  } else {
    UOV_UNROLL
    for (int i = 0; i < 4; ++i) {
      b[i] = tile[Right::at(column + i / 2 * 8 + lane / 4, depth + i % 2 * 4 + lane % 4)];
    }
  }
}

// kWarpRows x kColumns sums of a warp.
template <typename T, typename Multiply, typename Left, typename Right, int kColumns>
class WarpProduct {
 public:
  // Adds the product of the rows from `row` and the columns from `column` on, over the first
  // `depth` numbers.
  UOV_DEVICE void add(Shared<const T> left, int row, Shared<const T> right, int column, int depth) {
    UOV_UNROLL
    for (int d = 0; d < kDepth; d += kStep) {
      if (d >= depth) break;
      uint32_t a[kRowFragments][4];
      UOV_UNROLL
      for (int i = 0; i < kRowFragments; ++i) left_factor(a[i], left, row + 16 * i, d);
      UOV_UNROLL
      for (int j = 0; j < kColumns / 16; ++j) {
        uint32_t b[2][2];
        right_factors(b, right, column + 16 * j, d);
        UOV_UNROLL
        for (int half = 0; half < 2; ++half) {
          UOV_UNROLL
          for (int i = 0; i < kRowFragments; ++i) {
            if constexpr (kTf32) {
              multiply_tf32(sums_[i][2 * j + half], a[i], b[half]);
            } else {
              multiply_bfloat16(sums_[i][2 * j + half], a[i], b[half]);
            }
          }
        }
      }
    }
  }

  // Calls take(row, column, sums) for all sums of this thread, two columns that follow each other
  // at a time.
  template <typename Take>
  UOV_DEVICE void each(Take&& take) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    UOV_UNROLL
    for (int i = 0; i < kRowFragments; ++i) {
      UOV_UNROLL
      for (int half = 0; half < 2; ++half) {
        UOV_UNROLL
        for (int j = 0; j < kColumns / 8; ++j) {
          const float(&sums)[4] = sums_[i][j];
          const float two[2] = {sums[2 * half], sums[2 * half + 1]};
          take(16 * i + 8 * half + lane / 4, 8 * j + lane % 4 * 2, two);
        }
      }
    }
  }

 private:
  static constexpr int kStep = Multiply::kStep;
  static constexpr bool kTf32 = Multiply::kPrecision == Precision::kTf32;
  static constexpr int kRowFragments = kWarpRows / 16;
  static_assert(kColumns % 16 == 0);

  static UOV_DEVICE void left_factor(uint32_t (&a)[4], Shared<const T> tile, int row, int depth) {
    if constexpr (sizeof(T) == 2) {
      load_left<Left>(a, tile, row, depth);
    } else if constexpr (kTf32) {
      float raw[4];
      load_left<Left>(raw, tile, row, depth);
      UOV_UNROLL
      for (int i = 0; i < 4; ++i) a[i] = tf32_bits(raw[i]);
    } else {
      // Which of its sixteen depths a number is at matters to a product as little as it is the same
      // in both factors: what two loads give is paired as it comes.
      float first[4], second[4];
      load_left<Left>(first, tile, row, depth);
      load_left<Left>(second, tile, row, depth + 8);
      UOV_UNROLL
      for (int i = 0; i < 2; ++i) {
        a[i] = bfloat16_pair(first[i], first[i + 2]);
        a[i + 2] = bfloat16_pair(second[i], second[i + 2]);
      }
    }
  }

  static UOV_DEVICE void right_factors(uint32_t (&b)[2][2], Shared<const T> tile, int column,
                                       int depth) {
    uint32_t both[4];
    if constexpr (sizeof(T) == 2) {
      load_right<Right>(both, tile, column, depth);
    } else if constexpr (kTf32) {
      float raw[4];
      load_right<Right>(raw, tile, column, depth);
      UOV_UNROLL
      for (int i = 0; i < 4; ++i) both[i] = tf32_bits(raw[i]);
    } else {
      float first[4], second[4];
      load_right<Right>(first, tile, column, depth);
      load_right<Right>(second, tile, column, depth + 8);
      UOV_UNROLL
      for (int i = 0; i < 4; i += 2) {
        both[i] = bfloat16_pair(first[i], first[i + 1]);
        both[i + 1] = bfloat16_pair(second[i], second[i + 1]);
      }
    }
    UOV_UNROLL
    for (int i = 0; i < 4; ++i) b[i / 2][i % 2] = both[i];
  }

  float sums_[kRowFragments][kColumns / 8][4] = {};
};

// The same without tensor cores: eight rows by four columns of sums a thread, which read eight and
// four chunks for 128 multiply-adds. Lanes that read different chunks at a time read different
// banks.
template <typename Left, typename Right>
class WarpProduct<float, PlainFloat32, Left, Right, kWarpRows> {
 public:
  UOV_DEVICE void add(Shared<const float> left, int row, Shared<const float> right, int column,
                      int depth) {
    UOV_UNROLL
    for (int d = 0; d < kDepth; d += kStep) {
      if (d >= depth) break;
      float a[kRows][kStep], b[kColumns][kStep];
      load_factor<Left, kRows>(a, left, row, d, row_of);
      load_factor<Right, kColumns>(b, right, column, d, column_of);
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

  template <typename Take>
  UOV_DEVICE void each(Take&& take) const {
    UOV_UNROLL
    for (int i = 0; i < kRows; ++i) {
      if constexpr (Right::kDepthInLine) {
        UOV_UNROLL
        for (int j = 0; j < kColumns; ++j) {
          const float one[1] = {sums_[i][j]};
          take(row_of(i), column_of(j), one);
        }
      } else {
        UOV_UNROLL
        for (int j = 0; j < kColumns; j += 2) {
          const float two[2] = {sums_[i][j], sums_[i][j + 1]};
          take(row_of(i), column_of(j), two);
        }
      }
    }
  }

 private:
  static constexpr int kStep = PlainFloat32::kStep;
  static constexpr int kRows = 8, kColumns = 4;

  // Rows and columns of a thread. Four of them follow each other where lines have one depth, and
  // else every fourth row or eighth column is its own.
  static UOV_DEVICE int row_of(int i) {
    const int group = static_cast<int>(threadIdx.x) % kWarp / 8;
    return Left::kDepthInLine ? 4 * i + group : i / 4 * 16 + 4 * group + i % 4;
  }
  static UOV_DEVICE int column_of(int j) {
    const int member = static_cast<int>(threadIdx.x) % 8;
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

  float sums_[kRows][kColumns] = {};
};

}  // namespace uov::cuda
