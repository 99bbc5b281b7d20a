// The rows of norms, alone and behind a product: which are valid, and what becomes of their
// numbers.
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "cuda/norm.h"

namespace uov::cuda {

// A count beyond the capacity belongs to a plan that did not fit: all rows are valid then.
UOV_DEVICE int64_t valid_rows(Global<const int32_t> count, int64_t rows) {
  const int64_t valid = count[0];
  return valid < 0 ? 0 : valid < rows ? valid : rows;
}

// A RowAffine as kernels have it.
template <typename T>
struct Affine {
  Global<const float> mean, scale, bias;
  Global<const T> shortcut;
  Global<const int32_t> count;
  bool has_shortcut, relu;
};

template <typename T>
Affine<T> affine_of(const RowAffine<T>& from, int64_t rows, int64_t channels) {
  const bool has_shortcut = from.shortcut != nullptr;
  return {global(from.mean, channels),
          global(from.scale, channels),
          global(from.bias, channels),
          global(from.shortcut, has_shortcut ? rows * channels : 0),
          global(from.count, 1),
          has_shortcut,
          from.relu};
}

// One number of it, in one order of operations wherever it is done; `added`: of the shortcut.
template <typename T>
UOV_DEVICE float applied(const Affine<T>& affine, float x, float mean, float scale, float bias,
                         float added) {
  float y = (x - mean) * scale + bias;
  if (affine.has_shortcut) y += added;
  return affine.relu && 0.0f > y ? 0.0f : y;  // lets a NaN through
}

}  // namespace uov::cuda
