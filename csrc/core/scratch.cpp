#include "core/scratch.h"

#include <algorithm>

namespace uov {

AlignedFloats aligned_floats(int64_t n) {
  return AlignedFloats(
      static_cast<float*>(::operator new[](n * sizeof(float), std::align_val_t{64})));
}

namespace {

// Memory that grows to what is wanted of it, and is zeroed then.
class Kept {
 public:
  float* at_least(int64_t wanted) {
    if (size_ < wanted) {
      floats_ = aligned_floats(wanted);
      std::fill_n(floats_.get(), wanted, 0.0f);
      size_ = wanted;
    }
    return floats_.get();
  }

 private:
  AlignedFloats floats_;
  int64_t size_ = 0;
};

}  // namespace

float* thread_panel(Factor which, int64_t wanted) {
  thread_local Kept left, right;
  return (which == Factor::kLeft ? left : right).at_least(wanted);
}

float* thread_accumulator(int64_t wanted) {
  thread_local Kept sums;
  return sums.at_least(wanted);
}

}  // namespace uov
