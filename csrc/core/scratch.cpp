#include "core/scratch.h"

#include <algorithm>
#include <vector>

namespace uov {

AlignedFloats aligned_floats(int64_t n) {
  return AlignedFloats(
      static_cast<float*>(::operator new[](n * sizeof(float), std::align_val_t{64})));
}

float* thread_panel(Factor which, int64_t wanted) {
  struct Panel {
    AlignedFloats floats;
    int64_t size = 0;
  };
  thread_local Panel left, right;
  Panel& panel = which == Factor::kLeft ? left : right;
  if (panel.size < wanted) {
    panel.floats = aligned_floats(wanted);
    std::fill_n(panel.floats.get(), wanted, 0.0f);
    panel.size = wanted;
  }
  return panel.floats.get();
}

float* thread_accumulator(int64_t floats) {
  thread_local std::vector<float> storage;
  if (static_cast<int64_t>(storage.size()) < floats) storage.resize(floats);
  return storage.data();
}

}  // namespace uov
