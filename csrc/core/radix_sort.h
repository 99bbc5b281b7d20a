// Least-significant-digit radix sort by the bits of 64-bit keys that vary.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace uov {

// The lowest and the highest bit that is set in a number other than 0.
inline int lowest_bit(uint64_t bits) { return __builtin_ctzll(bits); }
inline int highest_bit(uint64_t bits) { return 63 - __builtin_clzll(bits); }

// Sorts items by `key(item)`, a number that is never negative, and keeps the order of equal ones.
// The fields of a cloud's keys vary in few of their bits: a pass covers up to `kDigitBits` bits
// from one that varies on, and what lies between the fields costs nothing.
template <typename Item, typename Key>
void radix_sort(std::vector<Item>& items, const Key& key) {
  constexpr int kDigitBits = 11;  // 2,048 counters stay in the first cache beside what is moved
  const auto n = static_cast<int64_t>(items.size());
  uint64_t varying = 0;
  bool sorted = true;
  for (int64_t i = 1; i < n; ++i) {
    const auto now = static_cast<uint64_t>(key(items[i]));
    varying |= now ^ static_cast<uint64_t>(key(items[0]));
    sorted = sorted && static_cast<uint64_t>(key(items[i - 1])) <= now;
  }
  if (sorted) return;
  const std::unique_ptr<Item[]> other(new Item[n]);
  Item *from = items.data(), *to = other.get();
  while (varying != 0) {
    const int shift = lowest_bit(varying);
    const uint64_t mask = (uint64_t{1} << kDigitBits) - 1;
    const int width = highest_bit((varying >> shift) & mask) + 1;
    const uint64_t digits = (uint64_t{1} << width) - 1;
    std::array<int32_t, 1 << kDigitBits> place{};
    for (int64_t i = 0; i < n; ++i)
      ++place[(static_cast<uint64_t>(key(from[i])) >> shift) & digits];
    int32_t next = 0;
    for (uint64_t digit = 0; digit <= digits; ++digit) {
      next += std::exchange(place[digit], next);
    }
    for (int64_t i = 0; i < n; ++i) {
      to[place[(static_cast<uint64_t>(key(from[i])) >> shift) & digits]++] = from[i];
    }
    std::swap(from, to);
    varying &= ~(mask << shift);
  }
  if (from != items.data()) std::copy_n(from, n, items.data());
}

}  // namespace uov
