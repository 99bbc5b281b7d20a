// float32 and bfloat16 numbers in kernels: those of core/bfloat16.h are the host's alone.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda/device.h"

namespace uov::cuda {

UOV_DEVICE float widened(float v) { return v; }
UOV_DEVICE float widened(bfloat16 v) {
  const uint32_t bits = uint32_t{v.bits} << 16;
  float out;
  memcpy(&out, &bits, sizeof(out));
  return out;
}

// To the nearest number, halves to the even one.
template <typename T>
UOV_DEVICE T narrowed(float v) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return v;
  } else {
    return {static_cast<uint16_t>(bfloat16_pair(v, 0.0f) & 0xffffu)};
  }
}

}  // namespace uov::cuda
