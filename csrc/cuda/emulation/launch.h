// The host's side of kernels on a CPU: see cuda/launch.h.
#pragma once

#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

#include "cuda/emulation/device.h"

namespace uov::cuda {

using Stream = void*;

// The one whose tiles are tried.
inline int architecture() { return 900; }

template <typename... Parameters, typename... Arguments>
void launch(Stream, const char* name, void (*kernel)(Parameters...), dim3 blocks, int threads,
            int64_t shared_bytes, Arguments&&... arguments) {
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0) return;
  using Call = std::pair<void (*)(Parameters...), std::tuple<std::decay_t<Parameters>...>>;
  Call call{kernel, {static_cast<Parameters>(std::forward<Arguments>(arguments))...}};
  const auto run_thread = [](void* what) {
    const auto& called = *static_cast<const Call*>(what);
    std::apply(called.first, called.second);
  };
  emulated::run({name, blocks.x, blocks.y, blocks.z, threads, shared_bytes, run_thread, &call});
}

inline void fill_bytes(Stream, void* data, int byte, int64_t bytes) {
  if (bytes <= 0) return;
  emulated::require_allowed(data, bytes, "a fill");
  std::memset(data, byte, static_cast<size_t>(bytes));
  emulated::mark_outside(data, static_cast<size_t>(bytes));
}

}  // namespace uov::cuda
