// Fibres: stacks of their own that one thread of the system runs in turns.
#pragma once

#include <cstddef>

// System V's calls on ELF systems have a switch of a dozen instructions; swapcontext asks the
// kernel for the signal mask each time, which takes ten times as long.
#ifndef UOV_FAST_FIBRES
#if defined(__ELF__) && (defined(__x86_64__) || defined(__aarch64__))
#define UOV_FAST_FIBRES 1
#else
#define UOV_FAST_FIBRES 0
#endif
#endif
#if !UOV_FAST_FIBRES
#include <ucontext.h>
#endif

namespace uov::cuda::emulated {

class Fibre {
 public:
  // One without a stack stands for whoever switches to another: its caller's.
  Fibre() = default;
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;

  // `entry` begins on [stack, stack + bytes) when the fibre is first switched to; it never returns.
  void begin(void* stack, size_t bytes, void (*entry)());

  // Leaves `from`, which must be what runs, until something switches to it again.
  static void change(Fibre& from, Fibre& to);

 private:
#if UOV_FAST_FIBRES
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
};

// Memory for stacks. Below each lies a page that nothing may touch.
class Stacks {
 public:
  static constexpr size_t kBytes = 256 * 1024;

  Stacks() = default;
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  // The lowest byte of stack `i`, made when first asked for.
  void* get(int i);

 private:
  static constexpr int kMost = 1024;
  void* stacks_[kMost] = {};
};

}  // namespace uov::cuda::emulated
