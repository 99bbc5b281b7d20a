// The sizes of a gather-GEMM, and how its weights are read.
#pragma once

#include <cstdint>

namespace uov {

// How the weights [K, rows, columns] of a call are read.
struct WeightView {
  // The stored matrices are used transposed, and slot k uses the matrix K-1-k: with both, a
  // submanifold convolution's input gradient is a convolution over the same map.
  bool transposed = false;
  bool mirrored = false;
};

struct GatherGemmShape {
  int64_t kernel;  // K
  int64_t rows_in, rows_out;
  int64_t channels_in, channels_out;  // of the product: after any transposition
};

}  // namespace uov
