// The threads of a block, run in turns as fibres: barriers, and what the lanes of a warp do
// together.
#pragma once

#include <cstdint>

#include "cuda/emulation/shadow.h"

namespace uov::cuda::emulated {

// Where in the sources something stands.
struct Site {
  const char* file = nullptr;
  int line = 0;
};

// What a thread may wait for. Lanes of a mask meet if all are at the same.
enum class Meeting : uint8_t {
  kNone,
  kSyncWarp,
  kShuffle,
  kVote,
  kTf32,
  kBfloat16,
  kLoadMatrices,
  kLoadTransposed,
};

// What each lane brings along and takes away.
struct Lane {
  uint64_t value = 0;   // brought
  int source = 0;       // of a shuffle: the lane to take from
  uint64_t result = 0;  // taken
  // What the lane's own variables hold, of a tensor core's product or what loads its fragments.
  void* out = nullptr;
  const void *a = nullptr, *b = nullptr;
};

// Waits at __syncthreads.
void meet_block(Site site);

// Waits until all lanes of the mask are at the same meeting. The last one that arrives calls
// `act(lanes, mask)` for all. Returns the lane's own.
Lane& meet_warp(Meeting meeting, unsigned mask, const Lane& brought, Site site,
                void (*act)(Lane* lanes, unsigned mask));
int lane_index();

// A place where another thread may run before this one goes on: now and then one does.
void maybe_pause();

// cp.async of the running thread.
struct Copy {
  void* to;
  const void* from;  // null: zeros
  int bytes;
};
void add_copy(const Copy& copy);
void commit_copies();
void wait_for_copies(int pending);

// The array of the block that this key names, of so many bytes, the same for all of its threads.
void* static_shared(const void* key, int64_t bytes);
// What the launch asked for.
void* dynamic_shared(int64_t* bytes);

// The same number gives the same orders of blocks, warps and lanes, launch by launch.
void use_order(uint64_t seed);

struct Grid {
  const char* name;
  unsigned x, y, z;
  int threads;
  int64_t shared_bytes;
  void (*kernel)(void* arguments);  // of one thread
  void* arguments;
};
// Runs all blocks. One grid at a time, whichever threads ask. Throws what a thread threw.
void run(const Grid& grid);

// Marks memory while no grid runs.
void mark_outside(const void* data, size_t bytes);
void mark_unwritten(void* data, size_t bytes);

}  // namespace uov::cuda::emulated
