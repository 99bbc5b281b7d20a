// How kernels say that what they were given is bad: nothing can be raised from a GPU, and nothing
// waits for it. The first fault is kept in memory that the host sees; the host asks when it reads a
// result anyway, and raises what the CPU's ops would have raised.
#pragma once

#include <cstdint>

#include "cuda/device.h"

namespace uov::cuda {

enum class FaultKind : int32_t {
  kNone = 0,
  kMapEntry,             // a: the entry, b: rows that there are
  kRowIndex,             // a: the index, b: rows that there are
  kCoordinateRange,      // a: row
  kCoordinateStride,     // a: row, b: tensor stride
  kDuplicateCoordinate,  // a, b: rows
  kPoint,                // a: the point
  kCount,                // a: the count, b: rows that there are
};

// int32 [4]: kind, a, b, 0. One for each device, zero until something goes wrong.
inline constexpr int kFaultNumbers = 4;

UOV_DEVICE void report(Global<int32_t> fault, FaultKind kind, int32_t a, int32_t b) {
  if (atomic_compare(fault, 0, 0, static_cast<int32_t>(kind)) != 0) return;
  fault[1] = a;
  fault[2] = b;
}

}  // namespace uov::cuda
