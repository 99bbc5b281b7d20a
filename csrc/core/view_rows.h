// Loops of view_features.h, compiled once per instruction set.
#pragma once

#include "core/vectorize.h"

namespace uov {
namespace UOV_KERNEL_NAMESPACE {

// y = the numbers of n halves; whether all are finite.
//
// The bits of a half, moved to where a float32 has them, are its number times 2^-112: subnormal
// ones too. All exponent bits set are infinite or no number at all.
inline bool widen_halves(const unsigned short* __restrict x, long n, float* __restrict y) {
  constexpr unsigned kExponent = 0x7c00;
  unsigned beyond = 0;
  UOV_INDEPENDENT
  for (long i = 0; i < n; ++i) {
    const unsigned bits = x[i];
    const unsigned moved = (bits & 0x7fff) << 13;
    float size;
    __builtin_memcpy(&size, &moved, sizeof(size));
    size *= 0x1p112f;
    unsigned whole;
    __builtin_memcpy(&whole, &size, sizeof(whole));
    whole |= (bits & 0x8000) << 16;
    __builtin_memcpy(y + i, &whole, sizeof(whole));
    beyond |= (bits & kExponent) == kExponent;
  }
  return beyond == 0;
}

// sums[target[i]] += x[cell[i]] for i < n, each row `channels` numbers.
inline void add_cells(const float* x, long x_stride, const int* cell, long n, long channels,
                      float* sums, long stride, const int* target) {
  constexpr long kAhead = 8;
  for (long i = 0; i < n; ++i) {
    if (i + kAhead < n) __builtin_prefetch(sums + target[i + kAhead] * stride, 1);
    const float* __restrict from = x + cell[i] * x_stride;
    float* __restrict sum = sums + target[i] * stride;
    for (long c = 0; c < channels; ++c) sum[c] += from[c];
  }
}

// sums[target[i]] += weight[i] . x[cell[i]] of four cells each.
inline void add_mixtures(const float* x, long x_stride, const int* cell, const float* weight,
                         long n, long channels, float* sums, long stride, const int* target) {
  constexpr long kAhead = 8;
  for (long i = 0; i < n; ++i, cell += 4, weight += 4) {
    if (i + kAhead < n) __builtin_prefetch(sums + target[i + kAhead] * stride, 1);
    const float* __restrict a = x + cell[0] * x_stride;
    const float* __restrict b = x + cell[1] * x_stride;
    const float* __restrict d = x + cell[2] * x_stride;
    const float* __restrict e = x + cell[3] * x_stride;
    float* __restrict sum = sums + target[i] * stride;
    for (long c = 0; c < channels; ++c) {
      sum[c] += (weight[0] * a[c] + weight[1] * b[c]) + (weight[2] * d[c] + weight[3] * e[c]);
    }
  }
}

}  // namespace UOV_KERNEL_NAMESPACE
}  // namespace uov
