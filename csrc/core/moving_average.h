// The moving averages of an optimiser: of its gradients, or of their squares.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/parallel.h"
#include "core/vectorize.h"

namespace uov {

// next = decay * old + weight * sample, or of the squares of the samples; `next` may be `old`.
inline void moving_average(const float* old, const float* sample, int64_t count, float decay,
                           float weight, bool squares, float* next,
                           const ParallelFor& parallel_for) {
  for_row_blocks(count, 1, parallel_for, [&](int64_t begin, int64_t end) {
    UOV_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) {
      const float value = squares ? sample[i] * sample[i] : sample[i];
      next[i] = decay * old[i] + weight * value;
    }
  });
}

}  // namespace uov
