// Which memory kernels may be given: what the call that runs on this thread has.
#pragma once

#include <cstddef>
#include <cstdint>

namespace uov::cuda::emulated {

// From now on, to this thread.
void allow(const void* data, size_t bytes);
// What was allowed from there on is no more, and nothing is known of what it holds.
void forbid(const void* data);

// Throws unless all of it lies in what was allowed at once, if anything was.
void require_allowed(const void* data, int64_t bytes, const char* what);

// What is allowed while it lives, and then no more.
class Call {
 public:
  Call() = default;
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call();
};

}  // namespace uov::cuda::emulated
