// How many accesses of shared memory the layouts of tiles make wait for each other. Shared memory
// has 32 banks of 4 bytes; what a warp asks for at a time, 128 bytes, comes at once if it lies in
// different ones.
#include <algorithm>
#include <set>
#include <vector>

#include "cuda/shared_tile.h"

namespace uov::cuda {
namespace {

// The most accesses of one bank, of `bytes` each at these numbers of T.
template <typename T>
int waits(const std::vector<int>& numbers, int bytes) {
  int most = 0;
  std::vector<std::set<int>> banks(32);
  for (const int number : numbers) {
    const int first = number * static_cast<int>(sizeof(T));
    for (int byte = first; byte < first + bytes; byte += 4) banks[byte / 4 % 32].insert(byte / 4);
  }
  for (const auto& words : banks) most = std::max(most, static_cast<int>(words.size()));
  return most;
}

// Over all accesses that kernels make of a tile: the most of one bank.
template <typename T, int kCount, bool kAlong>
int worst() {
  using Tile = SharedTile<T, kCount, kAlong>;
  int most = 0;
  const auto see = [&](int accesses, int bytes, auto&& at) {
    std::vector<int> numbers;
    for (int i = 0; i < accesses; ++i) numbers.push_back(at(i));
    most = std::max(most, waits<T>(numbers, bytes));
  };
  // Copies of eight threads: a group of chunks of a line, or the groups of four of two lines.
  for (int line = 0; line < Tile::kLines; line += 8 / Tile::kGroup) {
    for (int c = 0; c < Tile::kChunks; c += Tile::kGroup) {
      see(8, 16, [&](int i) { return Tile::chunk(line + i / Tile::kGroup, c + i % Tile::kGroup); });
    }
  }
  for (int index = 0; index < kCount; index += 8) {
    for (int depth = 0; depth < kDepth; depth += 4) {
      if (kAlong) {
        // Matrices of eight rows or columns, and chunks of as many columns of plain products.
        if (depth % Tile::kChunk != 0) continue;
        see(8, 16, [&](int i) { return Tile::at(index + i, depth); });
      } else if (sizeof(T) == 2) {
        // Matrices of eight depths.
        if (depth % 8 == 0) see(8, 16, [&](int i) { return Tile::at(index, depth + i); });
      } else {
        // Fragments, number by number; chunks of 32 columns at one depth.
        see(32, 4, [&](int i) { return Tile::at(index + i / 4, depth + i % 4); });
        if (index % 32 == 0) see(8, 16, [&](int i) { return Tile::at(index + 4 * i, depth); });
      }
    }
  }
  return most;
}

// Chunks of one tile are apart, and none is past its end.
template <typename T, int kCount, bool kAlong>
bool apart() {
  using Tile = SharedTile<T, kCount, kAlong>;
  std::set<int> seen;
  for (int index = 0; index < kCount; ++index) {
    for (int depth = 0; depth < kDepth; ++depth) seen.insert(Tile::at(index, depth));
  }
  return static_cast<int>(seen.size()) == kCount * kDepth && *seen.begin() >= 0 &&
         *seen.rbegin() < Tile::kNumbers;
}

template <typename T, bool kAlong>
int worst_of(int count) {
  switch (count) {
    case 32:
      return apart<T, 32, kAlong>() ? worst<T, 32, kAlong>() : -1;
    case 64:
      return apart<T, 64, kAlong>() ? worst<T, 64, kAlong>() : -1;
    case 96:
      return apart<T, 96, kAlong>() ? worst<T, 96, kAlong>() : -1;
    case 128:
      return apart<T, 128, kAlong>() ? worst<T, 128, kAlong>() : -1;
  }
  return -2;
}

}  // namespace
}  // namespace uov::cuda

// 1 where nothing waits.
extern "C" __attribute__((visibility("default"))) int most_of_one_bank(int bytes, int count,
                                                                       bool along) {
  using uov::cuda::worst_of;
  if (bytes == 4) return along ? worst_of<float, true>(count) : worst_of<float, false>(count);
  return along ? worst_of<uov::bfloat16, true>(count) : worst_of<uov::bfloat16, false>(count);
}
