// 16-bit numbers that are stored as two planes of bytes, all low ones and then all high ones.
#pragma once

#include <cstdint>

namespace uov {

// The numbers [n] of planes [2, n].
inline void join_planes(const uint8_t* planes, int64_t n, uint16_t* numbers) {
  for (int64_t i = 0; i < n; ++i) {
    numbers[i] = static_cast<uint16_t>(planes[i] | (planes[n + i] << 8));
  }
}

// Whether none of the half precision numbers is infinite or not a number.
inline bool all_finite(const uint16_t* halves, int64_t n) {
  constexpr uint16_t kExponent = 0x7c00;
  uint16_t infinite = 0;
  for (int64_t i = 0; i < n; ++i) {
    infinite |= static_cast<uint16_t>((halves[i] & kExponent) == kExponent ? 1 : 0);
  }
  return infinite == 0;
}

}  // namespace uov
