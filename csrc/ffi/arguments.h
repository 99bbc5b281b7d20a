// What all handlers do with their arguments: types, and errors instead of exceptions.
#pragma once

#include <cstdint>
#include <exception>
#include <stdexcept>

#include "core/bfloat16.h"
#include "xla/ffi/api/ffi.h"

namespace uov {

using Matrix32 = xla::ffi::Buffer<xla::ffi::S32, 2>;  // neighbour maps and coordinates
using Index = xla::ffi::Buffer<xla::ffi::S32, 1>;
using Count = xla::ffi::Buffer<xla::ffi::S32, 0>;
using Rows32 = xla::ffi::Buffer<xla::ffi::F32, 2>;
using Channels = xla::ffi::Buffer<xla::ffi::F32, 1>;
using WeightGradient = xla::ffi::Buffer<xla::ffi::F32, 3>;
using Number = xla::ffi::BufferR0<xla::ffi::F32>;

template <typename T>
T* data(const xla::ffi::AnyBuffer& buffer) {
  return reinterpret_cast<T*>(buffer.untyped_data());
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

// Runs a handler's body: what it throws becomes XLA's error.
template <typename Body>
xla::ffi::Error guarded(Body&& body) {
  try {
    body();
    return xla::ffi::Error::Success();
  } catch (const std::logic_error& error) {  // bad input
    return xla::ffi::Error(xla::ffi::ErrorCode::kInvalidArgument, error.what());
  } catch (const std::exception& error) {
    return xla::ffi::Error(xla::ffi::ErrorCode::kInternal, error.what());
  }
}

}  // namespace uov
