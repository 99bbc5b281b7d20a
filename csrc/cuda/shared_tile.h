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

// Where a chunk of a tile comes from: how many of its numbers are there, and whether anything reads
// it.
template <typename T>
struct ChunkSource {
  Global<const T> from;
  int there;
  bool wanted;
};

// Begins to copy a tile by all threads of a block. source(line, place) is the ChunkSource of the
// chunk with the numbers place.. of a line; all of its numbers are there or none is if 16 bytes may
// move at once.
template <typename Tile, int kThreads, typename T, typename Source>
UOV_DEVICE void copy_tile(Shared<T> tile, int bytes, Source&& source) {
  // Threads next to each other copy chunks of a line that are, a group of them; a thread always the
  // same chunk of its groups, of every so many lines.
  constexpr int kGroup = Tile::kGroup, kGroups = (Tile::kChunks + kGroup - 1) / kGroup;
  constexpr int kLinesAtOnce = kThreads / kGroup;
  static_assert(kLinesAtOnce % 8 == 0);
  const int thread = static_cast<int>(threadIdx.x);
  const int first_line = thread / kGroup, c = thread % kGroup;
  if (bytes == 16) {
    // Lines that are a multiple of eight apart have their chunks in the same places, and so have
    // groups of a line.
    const int first = Tile::chunk(first_line, c);
    UOV_UNROLL
    for (int lines = 0; lines < Tile::kLines; lines += kLinesAtOnce) {
      const int line = first_line + lines;
      if (Tile::kLines % kLinesAtOnce != 0 && line >= Tile::kLines) break;
      UOV_UNROLL
      for (int u = 0; u < kGroups; ++u) {
        if (Tile::kChunks % kGroup != 0 && u * kGroup + c >= Tile::kChunks) break;
        const ChunkSource<T> chunk = source(line, (u * kGroup + c) * Tile::kChunk);
        if (!chunk.wanted) continue;
        const int to = first + lines * Tile::kLineNumbers + u * kGroup * Tile::kChunk;
        copy_async<16>(tile + to, chunk.from, chunk.there > 0);
      }
    }
  } else {
    UOV_ROLLED
    for (int line = first_line; line < Tile::kLines; line += kLinesAtOnce) {
      UOV_ROLLED
      for (int i = c; i < Tile::kChunks; i += kGroup) {
        const ChunkSource<T> chunk = source(line, i * Tile::kChunk);
        if (!chunk.wanted) continue;
        copy_part_of_chunk<T>(tile + Tile::chunk(line, i), chunk.from, chunk.there, bytes);
      }
    }
  }
}

}  // namespace uov::cuda
