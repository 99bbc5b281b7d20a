// Memory for intermediate numbers: aligned to cache lines, or kept by each thread between calls.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace uov {

struct AlignedFree {
  void operator()(float* p) const { ::operator delete[](p, std::align_val_t{64}); }
};
using AlignedFloats = std::unique_ptr<float[], AlignedFree>;

AlignedFloats aligned_floats(int64_t n);

// Which factor of a product a panel holds: a thread has one of each.
enum class Factor { kLeft, kRight };

// The calling thread's panel, at least `wanted` floats. It is zeroed once: tiles read channels
// beyond a panel's width, whose products go nowhere.
float* thread_panel(Factor which, int64_t wanted);

// The calling thread's sums of a block whose result is narrower than float32: at least `wanted`.
float* thread_accumulator(int64_t wanted);

}  // namespace uov
