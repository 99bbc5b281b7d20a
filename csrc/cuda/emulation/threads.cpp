#include "cuda/emulation/threads.h"

#include <algorithm>
#include <exception>
#include <vector>

#include "cuda/emulation/device.h"
#include "cuda/emulation/fibre.h"

namespace uov::cuda::emulated {
namespace {

struct Thread {
  Fibre fibre;
  bool begun = false;
  int stack = 0;  // once it has begun
};

Thread threads[kMostThreads];
Fibre scheduler;
Stacks stacks;
std::vector<int> spare_stacks;
int used_stacks = 0;
void (*thread_kernel)(void*);
void* thread_arguments;
std::exception_ptr failure;

void thread_main();

// The thread gets a stack.
void begin(Thread& thread) {
  if (spare_stacks.empty()) {
    thread.stack = used_stacks++;
  } else {
    thread.stack = spare_stacks.back();
    spare_stacks.pop_back();
  }
  // Stacks that begin at the same address of their pages would share the same lines of the cache.
  const size_t bytes = Stacks::kBytes - static_cast<size_t>(thread.stack * 832 % 16384);
  thread.fibre.begin(stacks.get(thread.stack), bytes, &thread_main);
  thread.begun = true;
}

// `thread` is what runs from now on.
void become(int thread) {
  running = thread;
  warp_of(thread).ready &= ~bit_of(thread);
  clock.now = (clock.now & ~kThreadMask) | static_cast<Stamp>(thread);
  clock.warp_barrier = warp_of(thread).barrier;
  threadIdx.x = static_cast<unsigned>(thread);
}

// Where a stack begins: with one thread, then with those that have not begun when one has ended.
void thread_main() {
  for (;;) {
    try {
      thread_kernel(thread_arguments);
    } catch (...) {
      failure = std::current_exception();
    }
    if (failure != nullptr) change_to(-1);
    warp_of(running).ended |= bit_of(running);
    ++ended_threads;
    const int next = next_ready(running / kLanes, running % kLanes);
    const int stack = threads[running].stack;
    if (next < 0 || threads[next].begun) {
      spare_stacks.push_back(stack);
      change_to(next);
    }
    become(next);
    threads[next].begun = true;
    threads[next].stack = stack;
  }
}

}  // namespace

void begin_threads(int count, void (*kernel)(void*), void* arguments) {
  thread_kernel = kernel;
  thread_arguments = arguments;
  failure = nullptr;
  running = -1;
  ended_threads = 0;
  spare_stacks.clear();
  used_stacks = 0;
  for (int t = 0; t < count; ++t) threads[t].begun = false;
  for (int first = 0; first < count; first += kLanes) {
    Warp& warp = warp_of(first);
    const int lanes = std::min(kLanes, count - first);
    warp.lanes = warp.ready = lanes == kLanes ? ~0u : (1u << lanes) - 1;
    warp.ended = 0;
    warp.barrier = clock.warp_barrier;
  }
}

int next_ready(int warp, int lane) {
  const unsigned ready = warps[warp].ready;
  if (ready == 0) return -1;
  const unsigned later = ready & ~((2u << lane) - 1);
  return warp * kLanes + __builtin_ctz(later != 0 ? later : ready);
}

void change_to(int thread) {
  Fibre& from = running < 0 ? scheduler : threads[running].fibre;
  if (thread < 0) {
    running = -1;
    Fibre::change(from, scheduler);
    return;
  }
  if (!threads[thread].begun) begin(threads[thread]);
  become(thread);
  Fibre::change(from, threads[thread].fibre);
}

void leave() { change_to(next_ready(running / kLanes, running % kLanes)); }

void run_from(int thread) {
  change_to(thread);
  if (failure != nullptr) std::rethrow_exception(failure);
}

}  // namespace uov::cuda::emulated
