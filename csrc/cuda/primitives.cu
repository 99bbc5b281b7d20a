#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "cuda/primitives.h"

#ifdef UOV_EMULATED
#include <cstring>
#include <numeric>
#include <vector>
#else
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#endif

namespace uov::cuda {
namespace {

// What follows holds for CUB's tiles of all GPUs that we build for. A tile has at least this many
// items (they have 1,920 and more).
constexpr int64_t kItemsOfTile = 1024;
// Beginnings of allocations, padding of tiles, and what does not grow with the items.
constexpr int64_t kFixedBytes = 64 * 1024;

int64_t tiles(int64_t n) { return n / kItemsOfTile + 1; }

int checked_count(int64_t n) {
  if (n < 0 || n > std::numeric_limits<int32_t>::max()) {
    throw std::invalid_argument("no array of " + std::to_string(n) + " items is sorted or summed");
  }
  return static_cast<int>(n);
}

}  // namespace

int64_t exclusive_sum_workspace(int64_t n) {
  constexpr int64_t kStateOfTile = 16;
  return kFixedBytes + kStateOfTile * tiles(n);
}

template <typename Key>
int64_t sort_pairs_workspace(int64_t n) {
  // A counter for each of 256 digits: of every tile of a pass, and of every pass over 2^28 items.
  constexpr int64_t kDigits = 256;
  constexpr int64_t kPasses = sizeof(Key);
  constexpr int64_t kItemsOfPortion = int64_t{1} << 27;
  const int64_t portions = n / kItemsOfPortion + 1;
  const int64_t counters = kDigits * (sizeof(int32_t) * tiles(n) +  //
                                      sizeof(int64_t) * kPasses * portions);
  const int64_t spare = n * static_cast<int64_t>(sizeof(Key) + sizeof(int32_t));
  return kFixedBytes + counters + spare;
}

#ifdef UOV_EMULATED

namespace {

// Whatever CUB may write, so that memory which is wrongly shared with it comes out wrong.
void spoil(void* workspace, int64_t bytes) {
  emulated::require_allowed(workspace, bytes, "a workspace");
  std::memset(workspace, 0xa5, bytes);
  emulated::mark_unwritten(workspace, bytes);
}

}  // namespace

void exclusive_sum(Stream /*stream*/, const int32_t* values, int32_t* sums, int64_t n,
                   void* workspace) {
  const int count = checked_count(n);
  if (count == 0) return;
  emulated::require_written(values, n * sizeof(int32_t), "values to be summed");
  spoil(workspace, exclusive_sum_workspace(n));
  std::exclusive_scan(values, values + count, sums, 0);
  emulated::mark_outside(sums, n * sizeof(int32_t));
}

template <typename Key>
void sort_pairs(Stream /*stream*/, const Key* keys, Key* sorted_keys, const int32_t* values,
                int32_t* sorted_values, int64_t n, int bits, void* workspace) {
  const int count = checked_count(n);
  if (count == 0) return;
  emulated::require_written(keys, n * sizeof(Key), "keys to be sorted");
  spoil(workspace, sort_pairs_workspace<Key>(n));
  constexpr int kAllBits = 8 * sizeof(Key);
  const Key used = bits < kAllBits ? (Key{1} << bits) - 1 : std::numeric_limits<Key>::max();
  std::vector<int32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return (keys[a] & used) < (keys[b] & used); });
  for (int i = 0; i < count; ++i) {
    sorted_keys[i] = keys[order[i]];
    sorted_values[i] = values[order[i]];
    emulated::mark_copied(sorted_values + i, values + order[i], sizeof(int32_t));
  }
  emulated::mark_outside(sorted_keys, n * sizeof(Key));
}

#else

void exclusive_sum(Stream stream, const int32_t* values, int32_t* sums, int64_t n,
                   void* workspace) {
  const int count = checked_count(n);
  if (count == 0) return;
  size_t bytes = exclusive_sum_workspace(n);
  check(cub::DeviceScan::ExclusiveSum(workspace, bytes, values, sums, count, stream),
        "exclusive sum");
}

template <typename Key>
void sort_pairs(Stream stream, const Key* keys, Key* sorted_keys, const int32_t* values,
                int32_t* sorted_values, int64_t n, int bits, void* workspace) {
  // Whichever width of the count keeps CUDA 13.0 from spilling registers for Blackwell.
  using Count = std::conditional_t<sizeof(Key) == 8, int64_t, int32_t>;
  const Count count = checked_count(n);
  if (count == 0) return;
  size_t bytes = sort_pairs_workspace<Key>(n);
  check(cub::DeviceRadixSort::SortPairs(workspace, bytes, keys, sorted_keys, values, sorted_values,
                                        count, 0, bits, stream),
        "sort");
}

#endif

template int64_t sort_pairs_workspace<uint32_t>(int64_t);
template int64_t sort_pairs_workspace<uint64_t>(int64_t);
template void sort_pairs(Stream, const uint32_t*, uint32_t*, const int32_t*, int32_t*, int64_t, int,
                         void*);
template void sort_pairs(Stream, const uint64_t*, uint64_t*, const int32_t*, int32_t*, int64_t, int,
                         void*);

}  // namespace uov::cuda
