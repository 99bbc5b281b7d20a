// Points as they lie in memory: rows of float32 of which the first three are x, y and z.
#pragma once

#include <cstdint>

namespace uov {

struct Points {
  const float* values;
  int64_t count;
  int64_t stride;  // floats from one point to the next

  const float* operator[](int64_t i) const { return values + stride * i; }
};

}  // namespace uov
