// The host's side of kernels: streams, launches and their errors.
#pragma once

#include <cstdint>

namespace uov::cuda {
// Of 48 KiB of shared memory, which a kernel need not ask for, it may have some without being
// launched with them (UOV_SHARED): from this many in the launch on they are asked for.
inline constexpr int64_t kSharedUnasked = 32 * 1024;
}  // namespace uov::cuda

#ifdef UOV_EMULATED
#include "cuda/emulation/launch.h"
#else

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace uov::cuda {

using Stream = cudaStream_t;

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

// Compute capability of the device in force, 900 for 9.0, in the unit of __CUDA_ARCH__.
inline int architecture() {
  int device = 0, major = 0, minor = 0;
  check(cudaGetDevice(&device), "device");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "device");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "device");
  return 100 * major + 10 * minor;
}

// `kernel` on blocks of `threads` threads, in the order of the stream; no block is no launch.
// Kernels take their arguments by value. Allocates nothing and waits for nothing, so that XLA may
// record it into a graph.
template <typename... Parameters, typename... Arguments>
void launch(Stream stream, const char* name, void (*kernel)(Parameters...), dim3 blocks,
            int threads, int64_t shared_bytes, Arguments&&... arguments) {
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0) return;
  if (shared_bytes > kSharedUnasked) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          name);
  }
  kernel<<<blocks, threads, shared_bytes, stream>>>(
      static_cast<Parameters>(std::forward<Arguments>(arguments))...);
  check(cudaGetLastError(), name);
}

// memset of whole numbers of bytes.
inline void fill_bytes(Stream stream, void* data, int byte, int64_t bytes) {
  if (bytes > 0) check(cudaMemsetAsync(data, byte, bytes, stream), "memset");
}

}  // namespace uov::cuda
#endif
