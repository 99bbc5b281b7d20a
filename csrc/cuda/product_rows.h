// What products of gathered rows share: entries of maps that may be bad, and sums written to rows.
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "cuda/fault.h"
#include "cuda/numbers.h"

namespace uov::cuda {

// An entry of a neighbour map, -1 in place of one that is no row of the input.
UOV_DEVICE int32_t checked_entry(int32_t entry, int32_t rows_in, Global<int32_t> fault) {
  if (entry >= -1 && entry < rows_in) return entry;
  report(fault, FaultKind::kMapEntry, entry, rows_in);
  return -1;
}

// Sums at columns that follow each other, of which the row has `there`; `together`: whether N of
// them may be written at once.
template <typename T, int N>
UOV_DEVICE void write_sums(Global<T> y, int64_t at, const float (&sums)[N], int there,
                           bool together) {
  Vector<T, N> rounded;
  UOV_UNROLL
  for (int i = 0; i < N; ++i) rounded.value[i] = narrowed<T>(sums[i]);
  if (together && there >= N) {
    store<N>(y, at, rounded);
  } else {
    UOV_UNROLL
    for (int i = 0; i < N; ++i) {
      if (i < there) y[at + i] = rounded.value[i];
    }
  }
}

// Numbers at columns that follow each other, in the same way; zeros past the last.
template <int N, typename T>
UOV_DEVICE void read_numbers(Global<const T> from, int64_t at, int there, bool together,
                             float (&numbers)[N]) {
  Vector<T, N> read = {};
  if (together && there >= N) {
    read = load<N>(from, at);
  } else {
    UOV_UNROLL
    for (int i = 0; i < N; ++i) {
      if (i < there) read.value[i] = from[at + i];
    }
  }
  UOV_UNROLL
  for (int i = 0; i < N; ++i) numbers[i] = widened(read.value[i]);
}

// On the host: how many bytes of rows of so many channels `copy_chunk` may move at once.
template <typename T>
int bytes_at_once(const T* rows, int64_t channels) {
  const auto address = reinterpret_cast<uintptr_t>(rows);
  const int64_t bytes = channels * static_cast<int64_t>(sizeof(T));
  for (const int width : {16, 4}) {
    if (bytes % width == 0 && address % width == 0) return width;
  }
  return sizeof(T);
}

// Whether two of their numbers may be written at once, at even columns.
template <typename T>
bool fits_pairs(const T* rows, int64_t channels) {
  return channels % 2 == 0 && reinterpret_cast<uintptr_t>(rows) % (2 * sizeof(T)) == 0;
}

}  // namespace uov::cuda
