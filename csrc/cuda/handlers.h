// How the ops' bodies become XLA custom-call handlers, on a GPU and in the emulation.
//
//   void gather_rows_on(Stream stream, ffi::AnyBuffer x, Index index, ffi::Result<ffi::AnyBuffer>
//   y); UOV_CUDA_HANDLER(gather_rows, gather_rows_on,
//                        .Arg<ffi::AnyBuffer>()    // x [N, C]
//                        .Arg<Index>()             // index [M]
//                        .Ret<ffi::AnyBuffer>());  // y [M, C]
//   UOV_CUDA_WORKSPACE(plan, sizes) { return plan_workspace(sizes.at(0), ...); }
//
// both at global scope. What a body throws becomes XLA's error, a std::logic_error one of the
// input.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/handlers_list.h"
#include "cuda/launch.h"
#include "ffi/arguments.h"
#include "xla/ffi/api/ffi.h"

#ifdef UOV_EMULATED
#include "cuda/emulation/results.h"
#endif

namespace uov::cuda {

// XLA may record what a handler launches into a graph and launch that again: handlers neither
// allocate nor wait.
inline constexpr auto kTraits = xla::ffi::Traits::kCmdBufferCompatible;

// The handler around a body.
template <auto body>
struct Handler;

#ifdef UOV_EMULATED
template <typename... Arguments, void (*body)(Stream, Arguments...)>
struct Handler<body> {
  static auto bind() { return xla::ffi::Ffi::Bind(); }
  static xla::ffi::Error call(Arguments... arguments) {
    return guarded([&] {
      const emulated::Call call;
      emulated::begin_results(arguments...);
      body(Stream{}, arguments...);
    });
  }
};
#else
template <typename... Arguments, void (*body)(Stream, Arguments...)>
struct Handler<body> {
  static auto bind() { return xla::ffi::Ffi::Bind().Ctx<xla::ffi::PlatformStream<Stream>>(); }
  static xla::ffi::Error call(Stream stream, Arguments... arguments) {
    return guarded([&] { body(stream, arguments...); });
  }
};
#endif

}  // namespace uov::cuda

#define UOV_CUDA_HANDLER(name, body, ...)                                             \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_##name##_cuda, ::uov::cuda::Handler<&body>::call, \
                                (::uov::cuda::Handler<&body>::bind() __VA_ARGS__),    \
                                {::uov::cuda::kTraits})

#define UOV_CUDA_WORKSPACE(name, sizes) \
  int64_t uov_##name##_workspace(const std::vector<int64_t>& sizes)
