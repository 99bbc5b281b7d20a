// bfloat16 as storage: converted to float32 on load, rounded to nearest even on store.
#pragma once

#include <cstdint>
#include <cstring>

namespace uov {

struct bfloat16 {
  uint16_t bits;
};

inline float to_float(float v) { return v; }
inline float to_float(bfloat16 v) {
  const uint32_t bits = uint32_t{v.bits} << 16;
  float out;
  std::memcpy(&out, &bits, sizeof(out));
  return out;
}

template <typename T>
T from_float(float v);
template <>
inline float from_float<float>(float v) {
  return v;
}
template <>
inline bfloat16 from_float<bfloat16>(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40)};
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

}  // namespace uov
