// Open-addressing hash table from coordinate keys to row numbers.
#pragma once

#include <cstdint>
#include <vector>

namespace uov {

class HashTable {
 public:
  explicit HashTable(int64_t expected) {
    int bits = 4;
    // At most half full: linear probing then looks at 1.5 slots for a hit on average.
    while ((int64_t{1} << bits) < 2 * expected) ++bits;
    shift_ = 64 - bits;
    mask_ = (uint64_t{1} << bits) - 1;
    slots_.assign(mask_ + 1, Slot{kEmpty, -1});
  }

  // The row already stored under `key`, or `row` itself after storing it.
  int32_t find_or_insert(int64_t key, int32_t row) {
    for (uint64_t i = slot_of(key);; i = (i + 1) & mask_) {
      if (slots_[i].key == key) return slots_[i].row;
      if (slots_[i].key == kEmpty) {
        slots_[i] = {key, row};
        return row;
      }
    }
  }

 private:
  struct Slot {
    int64_t key;
    int32_t row;
  };
  static constexpr int64_t kEmpty = -1;  // Legal keys are never negative.

  uint64_t slot_of(int64_t key) const {
    // Multiplicative hashing: the upper bits of the product depend on every bit of the key.
    return (static_cast<uint64_t>(key) * 0x9E3779B97F4A7C15ull) >> shift_;
  }

  std::vector<Slot> slots_;
  uint64_t mask_ = 0;
  int shift_ = 0;
};

}  // namespace uov
