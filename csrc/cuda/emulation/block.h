// A block: its barriers, and what the lanes of a warp do together.
#pragma once

#include <cstdint>
#include <vector>

namespace uov::cuda::emulated {

// Where in the sources something stands.
struct Site {
  const char* file = nullptr;
  int line = 0;
};

// Waits at __syncthreads.
void meet_block(Site site);

// What lanes do together. Those of a mask meet if all are at the same.
enum class Meeting : uint8_t {
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
  // The lane's own variables, of a tensor core's product or what loads its fragments.
  void* out = nullptr;
  const void *a = nullptr, *b = nullptr;
};

// Waits until all lanes of the mask are at the same meeting. The last one that arrives calls
// `act(lanes, mask)` for all. Returns the lane's own.
Lane& meet_warp(Meeting meeting, unsigned mask, const Lane& brought, Site site,
                void (*act)(Lane* lanes, unsigned mask));
int lane_index();

// A place where another thread may run before this one goes on: now and then one does.
void maybe_pause();

// Runs kernel(arguments) in each thread of a block, whose warps are taken in a random order, which
// `warp_order` is made to be.
void run_block(int threads, void (*kernel)(void*), void* arguments, std::vector<int>& warp_order);

}  // namespace uov::cuda::emulated
