// The threads of the block that runs, as fibres: which of them runs, and which could.
//
// All that stands here and in block.h belongs to the launch that runs (grid.h), and there is one at
// a time.
#pragma once

#include <random>

#include "cuda/emulation/shadow.h"

namespace uov::cuda::emulated {

inline constexpr int kLanes = 32, kMostThreads = 1024;

struct Warp {
  unsigned lanes = 0;  // that there are, a bit each
  unsigned ready = 0;  // can run, but do not
  unsigned ended = 0;
  Stamp barrier = 0;  // the last __syncwarp
};
inline Warp warps[kMostThreads / kLanes];
inline int running = -1;  // the thread that runs, -1 for the scheduler
inline int ended_threads = 0;
inline std::minstd_rand random_order;

inline Warp& warp_of(int thread) { return warps[thread / kLanes]; }
inline unsigned bit_of(int thread) { return 1u << (thread % kLanes); }
inline int random_below(int n) {
  return static_cast<int>(random_order() % static_cast<unsigned>(n));
}

// A new block, whose threads are all ready to begin kernel(arguments).
void begin_threads(int count, void (*kernel)(void*), void* arguments);

// The lane of the warp that is ready and next after `lane`, or -1.
int next_ready(int warp, int lane);

// From the scheduler: goes on with this thread until none of its warp can, or one leaves for the
// scheduler. Throws what a thread threw.
void run_from(int thread);

// From a thread: goes on with another one of its warp, or with the scheduler (-1). Comes back when
// something goes on with this one.
void change_to(int thread);
// The same with whichever lane can run.
void leave();

}  // namespace uov::cuda::emulated
