// Results of an XLA call in the emulation: nothing has written them yet, and what they hold shows.
#pragma once

#include <cstring>

#include "cuda/emulation/grid.h"
#include "cuda/emulation/memory.h"
#include "xla/ffi/api/ffi.h"

namespace uov::cuda::emulated {

inline void begin_argument(const xla::ffi::AnyBuffer& buffer) {
  allow(buffer.untyped_data(), buffer.size_bytes());
  mark_outside(buffer.untyped_data(), buffer.size_bytes());
}
template <xla::ffi::DataType type, size_t rank>
void begin_argument(const xla::ffi::Buffer<type, rank>& buffer) {
  allow(buffer.untyped_data(), buffer.size_bytes());
  mark_outside(buffer.untyped_data(), buffer.size_bytes());
}
// A result, which is filled with numbers that are wrong; or an attribute.
template <typename T>
void begin_argument(const T&) {}

template <typename Buffer>
void begin_result(xla::ffi::Result<Buffer>& result) {
  const auto type = result->element_type();
  const bool floats = type == xla::ffi::F32 || type == xla::ffi::BF16;
  std::memset(result->untyped_data(), floats ? 0xff : 0xa5, result->size_bytes());
  allow(result->untyped_data(), result->size_bytes());
  mark_unwritten(result->untyped_data(), result->size_bytes());
}
inline void begin_result(xla::ffi::RemainingRets& results) {
  for (size_t i = 0; i < results.size(); ++i) {
    if (auto result = results.get<xla::ffi::AnyBuffer>(i); result.has_value()) {
      begin_result(*result);
    }
  }
}
template <typename T>
void begin_result(T&) {}

// No result may lie where an argument lies.
template <typename... Arguments>
void begin_results(Arguments&... arguments) {
  (begin_argument(arguments), ...);
  (begin_result(arguments), ...);
}

}  // namespace uov::cuda::emulated
