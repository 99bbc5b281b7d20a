#include "core/level_counts.h"

#include <array>

#include "core/coordinates.h"
#include "core/plan.h"
#include "core/plan_limits.h"
#include "core/radix_sort.h"

namespace uov {
namespace {

// What the levels cut off a coordinate.
constexpr int kCutBits = kMostLevels - 1;

// The cut-off bits of a coordinate, two places apart.
constexpr std::array<uint64_t, 1 << kCutBits> kSpread = [] {
  std::array<uint64_t, 1 << kCutBits> spread{};
  for (uint64_t low = 0; low < spread.size(); ++low) {
    for (int bit = 0; bit < kCutBits; ++bit) spread[low] |= ((low >> bit) & 1) << (3 * bit);
  }
  return spread;
}();

// Orders voxels so that those within one coarser voxel follow each other, on every level: by the
// voxel of the last level, then by one bit of x, y and z a level.
uint64_t nested_key(int32_t batch, const int32_t* xyz) {
  uint64_t high = static_cast<uint64_t>(batch), low = 0;
  for (int axis = 0; axis < 3; ++axis) {
    const auto field = static_cast<uint64_t>(xyz[axis] + kFieldOffset);
    high = (high << (kFieldBits - kCutBits)) | (field >> kCutBits);
    low = (low << 1) | kSpread[field & (kSpread.size() - 1)];
  }
  return (high << (3 * kCutBits)) | low;
}

}  // namespace

std::vector<int32_t> level_counts(const int32_t* coords, int64_t n, int64_t columns, int levels) {
  check_levels(levels);
  std::vector<uint64_t> keys(n);
  bool legal = true;
  for (int64_t i = 0; i < n && legal; ++i) {
    const int32_t* xyz = coords + columns * (i + 1) - 3;
    const int32_t batch = columns == 4 ? xyz[-1] : 0;
    legal = coordinate_is_legal(batch, xyz[0], xyz[1], xyz[2], 1);
    keys[i] = nested_key(batch, xyz);
  }
  if (legal) radix_sort(keys, [](uint64_t key) { return key; });
  std::vector<int32_t> counts(levels, n > 0 ? 1 : 0);
  for (int64_t i = 1; i < n && legal; ++i) {
    const uint64_t difference = keys[i] ^ keys[i - 1];
    legal = difference != 0;
    for (int level = 0; level < levels; ++level) {
      counts[level] += (difference >> (3 * level)) != 0 ? 1 : 0;
    }
  }
  if (!legal) {
    // Which says what is wrong.
    sorted_rows(columns == 4 ? coords : with_batch(coords, n, 0).data(), n, 1);
  }
  return counts;
}

}  // namespace uov
