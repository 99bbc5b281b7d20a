// Loops of the batch norm over rows, compiled once per instruction set: see microkernel.h, whose
// loads and stores of float32 and bfloat16 they use.
#pragma once

#include "core/microkernel.h"

namespace uov {
namespace UOV_KERNEL_NAMESPACE {

inline Half* stored(bfloat16* p) { return reinterpret_cast<Half*>(p); }
inline float* stored(float* p) { return p; }
inline void store_one(float* p, float value) { *p = value; }
inline void store_one(Half* p, float value) {  // from_float<bfloat16>
  unsigned bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  const unsigned quiet = bits >> 16 | 0x40;
  const unsigned rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  *p = static_cast<unsigned short>((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

// Rows that enter the sums together: alone, each would load and store all sums; with more of them,
// three arrays make more streams of memory than the processor follows.
constexpr int kRowsAtOnce = 2;

template <int ROWS, typename X>
void add_some_rows(const X* __restrict x, long stride, long channels, float* __restrict sum) {
  for (long c = 0; c < channels; ++c) {
    float total = sum[c];
    for (int i = 0; i < ROWS; ++i) total += load_one(x + i * stride + c);
    sum[c] = total;
  }
}

template <typename T>
void add_rows(const T* x, long stride, long rows, long channels, float* sum) {
  long row = 0;
  for (; row + kRowsAtOnce <= rows; row += kRowsAtOnce) {
    add_some_rows<kRowsAtOnce>(stored(x) + row * stride, stride, channels, sum);
  }
  for (; row < rows; ++row) add_some_rows<1>(stored(x) + row * stride, stride, channels, sum);
}

template <int ROWS, typename X>
void add_some_squares(const X* __restrict x, long stride, const float* __restrict mean,
                      long channels, float* __restrict sum) {
  for (long c = 0; c < channels; ++c) {
    float total = sum[c];
    for (int i = 0; i < ROWS; ++i) {
      const float deviation = load_one(x + i * stride + c) - mean[c];
      total += deviation * deviation;
    }
    sum[c] = total;
  }
}

template <typename T>
void add_squares(const T* x, long stride, long rows, long channels, const float* mean, float* sum) {
  long row = 0;
  for (; row + kRowsAtOnce <= rows; row += kRowsAtOnce) {
    add_some_squares<kRowsAtOnce>(stored(x) + row * stride, stride, mean, channels, sum);
  }
  for (; row < rows; ++row) {
    add_some_squares<1>(stored(x) + row * stride, stride, mean, channels, sum);
  }
}

// v where all bits of the mask are set, zero where none is.
inline Vector where(Bits mask, Vector v) { return (Vector)((Bits)v & mask); }

// `y` may be `x`.
template <bool SHORTCUT, bool RELU, typename X, typename Y>
void affine_all(const X* x, long x_stride, long rows, long channels, const float* __restrict mean,
                const float* __restrict scale, const float* __restrict bias, const Y* shortcut,
                Y* y, long stride) {
  for (long row = 0; row < rows; ++row, x += x_stride, y += stride) {
    long c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
      Vector value = (load(x + c) - load(mean + c)) * load(scale + c) + load(bias + c);
      if (SHORTCUT) value += load(shortcut + c);
      if (RELU) value = where(~(Bits)(0.0f > value), value);  // lets a NaN through
      store(y + c, value);
    }
    for (; c < channels; ++c) {
      float value = (load_one(x + c) - mean[c]) * scale[c] + bias[c];
      if (SHORTCUT) value += load_one(shortcut + c);
      if (RELU) value = 0.0f > value ? 0.0f : value;
      store_one(y + c, value);
    }
    if (SHORTCUT) shortcut += stride;
  }
}

template <typename From, typename T>
void affine_rows(const From* x, long x_stride, long rows, long channels, const float* mean,
                 const float* scale, const float* bias, const T* shortcut, bool relu, T* y,
                 long stride) {
  const auto* from = stored(x);
  const auto* added = stored(shortcut);
  auto* to = stored(y);
  if (shortcut != nullptr && relu) {
    affine_all<true, true>(from, x_stride, rows, channels, mean, scale, bias, added, to, stride);
  } else if (shortcut != nullptr) {
    affine_all<true, false>(from, x_stride, rows, channels, mean, scale, bias, added, to, stride);
  } else if (relu) {
    affine_all<false, true>(from, x_stride, rows, channels, mean, scale, bias, added, to, stride);
  } else {
    affine_all<false, false>(from, x_stride, rows, channels, mean, scale, bias, added, to, stride);
  }
}

template <bool RELU, typename X>
inline float passed(const X* dy, const X* y, long i) {
  const float value = load_one(dy + i);
  return !RELU || load_one(y + i) > 0.0f ? value : 0.0f;
}

template <int ROWS, bool RELU, typename X>
void add_some_gradients(const X* __restrict dy, const X* __restrict y, const X* __restrict x,
                        long channels, const float* __restrict mean, float* __restrict sum,
                        float* __restrict sum_deviation) {
  for (long c = 0; c < channels; ++c) {
    float total = sum[c], total_deviation = sum_deviation[c];
    for (int i = 0; i < ROWS; ++i) {
      const float g = passed<RELU>(dy, y, i * channels + c);
      total += g;
      total_deviation += g * (load_one(x + i * channels + c) - mean[c]);
    }
    sum[c] = total;
    sum_deviation[c] = total_deviation;
  }
}

template <bool RELU, typename X>
void add_all_gradients(const X* dy, const X* y, const X* x, long rows, long channels,
                       const float* mean, float* sum, float* sum_deviation) {
  for (long row = 0; row < rows;) {
    const bool several = row + kRowsAtOnce <= rows;
    if (several) {
      add_some_gradients<kRowsAtOnce, RELU>(dy, y, x, channels, mean, sum, sum_deviation);
    } else {
      add_some_gradients<1, RELU>(dy, y, x, channels, mean, sum, sum_deviation);
    }
    const long done = several ? kRowsAtOnce : 1;
    row += done;
    dy += done * channels;
    x += done * channels;
    if (RELU) y += done * channels;
  }
}

template <typename T>
void add_gradients(const T* dy, const T* y, const T* x, long rows, long channels, const float* mean,
                   float* sum, float* sum_deviation) {
  if (y != nullptr) {
    add_all_gradients<true>(stored(dy), stored(y), stored(x), rows, channels, mean, sum,
                            sum_deviation);
  } else {
    add_all_gradients<false>(stored(dy), stored(y), stored(x), rows, channels, mean, sum,
                             sum_deviation);
  }
}

template <bool SHORTCUT, bool RELU, typename X>
void gradient_row(const X* __restrict dy, const X* __restrict y, const X* __restrict x,
                  long channels, const float* __restrict mean, const float* __restrict offset,
                  const float* __restrict slope, const float* __restrict scale, X* __restrict dx,
                  X* __restrict dshortcut) {
  long c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    Vector g = load(dy + c);
    if (RELU) g = where((Bits)(load(y + c) > 0.0f), g);
    const Vector deviation = load(x + c) - load(mean + c);
    store(dx + c, (g - load(offset + c) - deviation * load(slope + c)) * load(scale + c));
    if (SHORTCUT) store(dshortcut + c, g);
  }
  for (; c < channels; ++c) {
    const float g = passed<RELU>(dy, y, c);
    const float deviation = load_one(x + c) - mean[c];
    store_one(dx + c, (g - offset[c] - deviation * slope[c]) * scale[c]);
    if (SHORTCUT) store_one(dshortcut + c, g);
  }
}

template <bool SHORTCUT, bool RELU, typename T>
void gradient_all(const T* dy, const T* y, const T* x, long rows, long channels, const float* mean,
                  const float* offset, const float* slope, const float* scale, T* dx,
                  T* dshortcut) {
  for (long row = 0; row < rows; ++row) {
    const long at = row * channels;
    gradient_row<SHORTCUT, RELU>(stored(dy) + at, stored(y) + (RELU ? at : 0), stored(x) + at,
                                 channels, mean, offset, slope, scale, stored(dx) + at,
                                 stored(dshortcut) + (SHORTCUT ? at : 0));
  }
}

template <typename T>
void gradient_rows(const T* dy, const T* y, const T* x, long rows, long channels, const float* mean,
                   const float* offset, const float* slope, const float* scale, T* dx,
                   T* dshortcut) {
  if (dshortcut != nullptr && y != nullptr) {
    gradient_all<true, true>(dy, y, x, rows, channels, mean, offset, slope, scale, dx, dshortcut);
  } else if (dshortcut != nullptr) {
    gradient_all<true, false>(dy, y, x, rows, channels, mean, offset, slope, scale, dx, dshortcut);
  } else if (y != nullptr) {
    gradient_all<false, true>(dy, y, x, rows, channels, mean, offset, slope, scale, dx, dshortcut);
  } else {
    gradient_all<false, false>(dy, y, x, rows, channels, mean, offset, slope, scale, dx, dshortcut);
  }
}

template <typename T>
void round_rows(const float* sums, long sums_stride, long rows, long channels, T* y, long stride) {
  for (long row = 0; row < rows; ++row) {
    const float* from = sums + row * sums_stride;
    auto* to = stored(y) + row * stride;
    long c = 0;
    for (; c + kLanes <= channels; c += kLanes) store(to + c, load(from + c));
    for (; c < channels; ++c) store_one(to + c, from[c]);
  }
}

}  // namespace UOV_KERNEL_NAMESPACE
}  // namespace uov
