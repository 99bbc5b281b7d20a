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
  // Places recur: rows or columns kPeriod apart lie as far apart if they share lines, and at the
  // same places of their lines if lines are theirs, and so do depths kDepthPeriod apart that have
  // lines.
  static constexpr int kPeriod = kAlong ? 8 : kGroup * kChunk;
  static constexpr int kDepthPeriod = 8;
  static constexpr int kLineNumbers = kPitch * kChunk;

  // Where the number of a row or column at a depth is.
  static UOV_DEVICE int at(int index, int depth) {
    const int line = kAlong ? index : depth, place = kAlong ? depth : index;
    return chunk(line, place / kChunk) + place % kChunk;
  }
};

// Begins to copy a chunk: its first `there` numbers from `from` on, zeros for the others. `bytes`
// is how many may move at once, which are fewer than 4 for bfloat16 rows of an odd number of
// channels: they are copied at once and not on the way.
template <typename T>
UOV_DEVICE void copy_part_of_chunk(Shared<T> to, Global<const T> from, int there, int bytes) {
  constexpr int kChunk = 16 / sizeof(T);
  if (sizeof(T) == 4 || bytes >= 4) {
    constexpr int kWord = 4 / sizeof(T);
    UOV_ROLLED
    for (int i = 0; i < kChunk; i += kWord) copy_async<4>(to + i, from + i, i < there);
  } else {
    UOV_ROLLED
    for (int i = 0; i < kChunk; ++i) {
      T number{};
      if (i < there) number = from[i];
      to[i] = number;
    }
  }
}

// A chunk that a thread copies, if it is `wanted`.
template <typename T>
struct CopiedChunk {
  Shared<T> to;
  Global<const T> from;
  int there;
  bool wanted;
};

// Begins to copy what of a tile a thread has to: `copies` chunks of the block's threads, of which
// describe(i) says where they lie, where they come from and how many of their numbers are there:
// all or none where 16 bytes move at once.
template <int kCopies, int kThreads, typename T, typename Describe>
UOV_DEVICE void copy_chunks(int bytes, Describe&& describe) {
  const int thread = static_cast<int>(threadIdx.x);
  if (bytes == 16) {
    UOV_UNROLL
    for (int first = 0; first < kCopies; first += kThreads) {
      if (kCopies % kThreads != 0 && first + thread >= kCopies) break;
      const CopiedChunk<T> chunk = describe(first + thread);
      if (chunk.wanted) copy_async<16>(chunk.to, chunk.from, chunk.there > 0);
    }
  } else {
    UOV_ROLLED
    for (int i = thread; i < kCopies; i += kThreads) {
      const CopiedChunk<T> chunk = describe(i);
      if (chunk.wanted) copy_part_of_chunk<T>(chunk.to, chunk.from, chunk.there, bytes);
    }
  }
}

}  // namespace uov::cuda
