// Tiles of factors in shared memory: where their numbers lie, and how they come there.
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "cuda/tiles.h"

namespace uov::cuda {

// A tile of `kCount` rows (of the left factor) or columns (of the right one) and kDepth numbers of
// each along the sum. It lies in lines: of one row or column if `kAlong`, and else of one depth.
//
// Chunks of 16 bytes, which are what is copied, change places within a line, in a way that differs
// from line to line: threads of a warp read and write eight chunks of different lines at a time,
// and none of them share a bank.
template <typename T, int kCount, bool kAlong>
struct SharedTile {
  static constexpr bool kDepthInLine = kAlong;
  static constexpr int kChunk = 16 / sizeof(T);
  static constexpr int kLines = kAlong ? kCount : kDepth;
  static constexpr int kLine = kAlong ? kDepth : kCount;
  static constexpr int kChunks = kLine / kChunk;
  static_assert(kLine % kChunk == 0);
  // As laid out: whole groups of chunks that change places.
  static constexpr int kGroup = kChunks < 8 ? 4 : 8;
  static constexpr int kPitch = (kChunks + kGroup - 1) / kGroup * kGroup;
  static constexpr int kNumbers = kLines * kPitch * kChunk;

  static UOV_DEVICE int chunk(int line, int c) {
    if constexpr (kGroup == 4) {
      c ^= line / 2 % 4;
    } else if constexpr (sizeof(T) == 4 && !kAlong) {
      // Read as single numbers: eight columns, two chunks, of four depths at a time.
      c ^= line % 4 * 2;
    } else {
      c ^= line % 8;
    }
    return (line * kPitch + c) * kChunk;
  }
  // Where the number of a row or column at a depth is.
  static UOV_DEVICE int at(int index, int depth) {
    const int line = kAlong ? index : depth, place = kAlong ? depth : index;
    return chunk(line, place / kChunk) + place % kChunk;
  }
};

// Begins to copy a chunk: its first `there` numbers from `from` on, zeros for the others. `bytes`
// is how many may move at once: 16 only if either all numbers are there or none is, and fewer than
// 4 for bfloat16 rows of an odd number of channels, which are copied at once and not on the way.
template <typename T>
UOV_DEVICE void copy_chunk(Shared<T> to, Global<const T> from, int there, int bytes) {
  constexpr int kChunk = 16 / sizeof(T);
  if (bytes == 16) {
    copy_async<16>(to, from, there > 0);
  } else if (sizeof(T) == 4 || bytes == 4) {
    constexpr int kWord = 4 / sizeof(T);
    UOV_UNROLL
    for (int i = 0; i < kChunk; i += kWord) copy_async<4>(to + i, from + i, i < there);
  } else {
    Vector<T, kChunk> numbers{};
    UOV_UNROLL
    for (int i = 0; i < kChunk; ++i) {
      if (i < there) numbers.value[i] = from[i];
    }
    store<kChunk>(to, 0, numbers);
  }
}

}  // namespace uov::cuda
