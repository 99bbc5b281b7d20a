// Which plans and maps there are, wherever they are computed.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "core/coordinates.h"

namespace uov {

inline constexpr int kMostLevels = 5;
static_assert(1 << (kMostLevels - 1) == kLargestStride);

inline void check_levels(int64_t levels) {
  if (levels < 1 || levels > kMostLevels) {
    throw std::invalid_argument("a plan has 1 to " + std::to_string(kMostLevels) + " levels");
  }
}

inline void check_tensor_stride(int64_t tensor_stride) {
  if (tensor_stride < 1 || tensor_stride > kLargestStride ||
      (tensor_stride & (tensor_stride - 1)) != 0) {
    throw std::invalid_argument("the tensor stride is " + std::to_string(tensor_stride) +
                                ", expected a power of two of at most " +
                                std::to_string(kLargestStride));
  }
}

inline void check_submanifold_kernel(int64_t kernel, int64_t dilation) {
  if (kernel < 1 || kernel > 5 || kernel % 2 == 0 || dilation < 1 || dilation > 2) {
    throw std::invalid_argument(
        "submanifold_map: kernel 1, 3 or 5 and dilation 1 or 2 are supported");
  }
}

}  // namespace uov
