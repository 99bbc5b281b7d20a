// What the emulation found: an error that names the kernel, the block and the thread.
#pragma once

#include <stdexcept>
#include <string>

namespace uov::cuda::emulated {

// Of a kernel, not of its input: XLA reports it as an internal error.
class KernelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Says where the running thread is, then `what`.
[[noreturn]] void fail(const std::string& what);

// Such as 0x0000ffff.
std::string hexadecimal(unsigned value);

}  // namespace uov::cuda::emulated
