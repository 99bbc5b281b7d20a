#include "cuda/emulation/fibre.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <new>

#if UOV_FAST_FIBRES
// void uov_change_fibre(void** from, void* to): pushes what a call must keep, stores the stack
// pointer, takes the other one and pops. All fibres run on one thread: its floating-point modes are
// theirs.
extern "C" void uov_change_fibre(void** from, void* to);

#ifdef __x86_64__
asm(R"(
.text
.hidden uov_change_fibre
.globl uov_change_fibre
.type uov_change_fibre, @function
uov_change_fibre:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size uov_change_fibre, .-uov_change_fibre
)");
#else
asm(R"(
.text
.hidden uov_change_fibre
.globl uov_change_fibre
.type uov_change_fibre, %function
uov_change_fibre:
  stp x29, x30, [sp, #-160]!
  stp x19, x20, [sp, #16]
  stp x21, x22, [sp, #32]
  stp x23, x24, [sp, #48]
  stp x25, x26, [sp, #64]
  stp x27, x28, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #16]
  ldp x21, x22, [sp, #32]
  ldp x23, x24, [sp, #48]
  ldp x25, x26, [sp, #64]
  ldp x27, x28, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  ldp x29, x30, [sp], #160
  ret
.size uov_change_fibre, .-uov_change_fibre
)");
#endif
#endif

namespace uov::cuda::emulated {

#if UOV_FAST_FIBRES

void Fibre::begin(void* stack, size_t bytes, void (*entry)()) {
  auto top = reinterpret_cast<uintptr_t>(stack) + bytes;
  top &= ~uintptr_t{15};
#ifdef __x86_64__
  // Six registers, where to return to, and a return address for `entry`, which has none.
  constexpr int kWords = 8, kEntry = 6;
#else
  constexpr int kWords = 20, kEntry = 1;
#endif
  auto* words = reinterpret_cast<uintptr_t*>(top) - kWords;
  std::memset(words, 0, kWords * sizeof(*words));
  words[kEntry] = reinterpret_cast<uintptr_t>(entry);
  stack_pointer_ = words;
}

void Fibre::change(Fibre& from, Fibre& to) {
  uov_change_fibre(&from.stack_pointer_, to.stack_pointer_);
}

#else

void Fibre::begin(void* stack, size_t bytes, void (*entry)()) {
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack;
  context_.uc_stack.ss_size = bytes;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
}

void Fibre::change(Fibre& from, Fibre& to) { swapcontext(&from.context_, &to.context_); }

#endif

Stacks::~Stacks() {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (void* stack : stacks_) {
    if (stack != nullptr) munmap(static_cast<char*>(stack) - page, kBytes + page);
  }
}

void* Stacks::get(int i) {
  if (stacks_[i] == nullptr) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void* memory = mmap(nullptr, kBytes + page, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    mprotect(memory, page, PROT_NONE);
    stacks_[i] = static_cast<char*>(memory) + page;
  }
  return stacks_[i];
}

}  // namespace uov::cuda::emulated
