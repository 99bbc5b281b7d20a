// Open-addressing hash table of coordinate keys, filled by all threads at once.
#pragma once

#include <cstdint>

#include "cuda/device.h"

namespace uov::cuda {

// What a slot without a key holds, all bytes 0xff: no legal key is that.
inline constexpr uint64_t kNoKey = ~uint64_t{0};

// The table has 2^bits slots, at most half of them taken by `keys` different keys: linear probing
// then looks at 1.5 slots for a hit on average.
inline int hash_table_bits(int64_t keys) {
  int bits = 4;
  while ((int64_t{1} << bits) < 2 * keys) ++bits;
  return bits;
}
inline int64_t hash_table_slots(int bits) { return int64_t{1} << bits; }

struct HashTable {
  Global<uint64_t> slots;  // kNoKey to begin with
  int bits;
};

// Keys of neighbours differ in a few bits somewhere: two products with a fold between carry each of
// them to the upper bits, wherever it is.
UOV_DEVICE int64_t slot_of(uint64_t key, int bits) {
  constexpr uint64_t kOdd = 0x9E3779B97F4A7C15ull;
  uint64_t mixed = key * kOdd;
  mixed ^= mixed >> 32;
  return static_cast<int64_t>((mixed * kOdd) >> (64 - bits));
}

struct Inserted {
  int64_t slot;
  bool is_new;  // in one thread of all those that insert a key
};

// Where a key lies depends on which thread comes first, and that it lies in one place does not.
UOV_DEVICE Inserted insert(const HashTable& table, uint64_t key) {
  const int64_t mask = (int64_t{1} << table.bits) - 1;
  for (int64_t slot = slot_of(key, table.bits);; slot = (slot + 1) & mask) {
    // A look first: most keys are there already, and what lies in a slot stays.
    const uint64_t seen = atomic_read(table.slots, slot);
    if (seen == key) return {slot, false};
    if (seen != kNoKey) continue;
    const uint64_t before = atomic_compare(table.slots, slot, kNoKey, key);
    if (before == kNoKey) return {slot, true};
    if (before == key) return {slot, false};
  }
}

}  // namespace uov::cuda
