// Which inner kernels run, of those that the processor and the build have.
#pragma once

#include <shared_mutex>
#include <string>
#include <vector>

namespace uov {

// Their names, from the plainest on: generic, avx2, avx512, avx512_bf16 or some of these.
std::vector<std::string> runnable_kernels();

// From now on `kernels()` are these; generic before. Waits for whoever holds the others. Throws
// std::invalid_argument for those that cannot run.
void use_kernels(const std::string& name);

// `kernels()` stay the same as long as the result lives: for ops, which look more than once.
std::shared_lock<std::shared_mutex> hold_kernels();

// What tells models of processors apart, as x86 processors say it; empty and zeros on others.
struct Processor {
  std::string vendor;  // "GenuineIntel", "AuthenticAMD"
  int family = 0, model = 0;
};
Processor processor();

}  // namespace uov
