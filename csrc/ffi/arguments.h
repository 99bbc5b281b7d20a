// What all handlers do with their arguments: types, checks, and errors instead of exceptions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>

#include "core/bfloat16.h"
#include "core/kernel_choice.h"
#include "xla/ffi/api/ffi.h"

namespace uov {

using Matrix32 = xla::ffi::Buffer<xla::ffi::S32, 2>;  // neighbour maps and coordinates
using Channels = xla::ffi::Buffer<xla::ffi::F32, 1>;
using Count = xla::ffi::Buffer<xla::ffi::S32, 0>;

template <typename T>
T* data(const xla::ffi::AnyBuffer& buffer) {
  return reinterpret_cast<T*>(buffer.untyped_data());
}

inline void require(bool condition, const char* expected) {
  if (!condition) throw std::invalid_argument(expected);
}

// Calls body(T{}) with the type of the rows, float or bfloat16.
template <typename Body>
void with_type(const xla::ffi::AnyBuffer& rows, Body&& body) {
  switch (rows.element_type()) {
    case xla::ffi::F32:
      return body(float{});
    case xla::ffi::BF16:
      return body(bfloat16{});
    default:
      throw std::invalid_argument("rows must be float32 or bfloat16");
  }
}

// How many of `rows` rows are valid. A count beyond the capacity belongs to a plan that did not
// fit: all rows are valid then.
inline int64_t valid_rows(const Count& count, int64_t rows) {
  return std::clamp<int64_t>(count.typed_data()[0], 0, rows);
}

// Runs a handler's body, with the same kernels throughout: what it throws becomes XLA's error.
template <typename Body>
xla::ffi::Error guarded(Body&& body) {
  try {
    const auto held = hold_kernels();
    body();
    return xla::ffi::Error::Success();
  } catch (const std::logic_error& error) {  // bad input
    return xla::ffi::Error(xla::ffi::ErrorCode::kInvalidArgument, error.what());
  } catch (const std::exception& error) {
    return xla::ffi::Error(xla::ffi::ErrorCode::kInternal, error.what());
  }
}

}  // namespace uov
