#include "cuda/emulation/block.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "cuda/emulation/copies.h"
#include "cuda/emulation/device.h"
#include "cuda/emulation/failure.h"
#include "cuda/emulation/threads.h"

namespace uov::cuda::emulated {
namespace {

// Who waits for whom.
struct WarpMeeting {
  unsigned waiting = 0;  // lanes, a bit each
  Lane brought[kLanes];
  Meeting meeting[kLanes];
  unsigned mask[kLanes];
  Site site[kLanes];
};
WarpMeeting meetings[kMostThreads / kLanes];
bool at_barrier[kMostThreads];
int barrier_count = 0, barrier_first = 0;  // how many threads, and the first one that came
Site barrier_site;

std::string place(const Site& site) {
  const char* slash = std::strrchr(site.file, '/');
  return std::string(slash == nullptr ? site.file : slash + 1) + ":" + std::to_string(site.line);
}

const char* name_of(Meeting meeting) {
  switch (meeting) {
    case Meeting::kSyncWarp:
      return "__syncwarp";
    case Meeting::kShuffle:
      return "a shuffle";
    case Meeting::kVote:
      return "a vote";
    case Meeting::kTf32:
      return "multiply_tf32";
    case Meeting::kBfloat16:
      return "multiply_bfloat16";
    case Meeting::kLoadMatrices:
      return "load_matrices";
    case Meeting::kLoadTransposed:
      return "load_matrices_transposed";
  }
  return "nothing";
}

std::string named(Meeting meeting, Site site, unsigned mask) {
  return std::string(name_of(meeting)) + " of " + place(site) + " with mask " + hexadecimal(mask);
}

// What a thread that cannot run does.
std::string state_of(int thread) {
  if ((warp_of(thread).ended & bit_of(thread)) != 0) return "has ended";
  if (at_barrier[thread]) return "waits at __syncthreads of " + place(barrier_site);
  const WarpMeeting& warp = meetings[thread / kLanes];
  const int lane = thread % kLanes;
  return "waits at " + named(warp.meeting[lane], warp.site[lane], warp.mask[lane]);
}

// An error that is this thread's.
[[noreturn]] void fail_of(int thread, const std::string& what) {
  threadIdx.x = static_cast<unsigned>(thread);
  fail(what);
}

// Whether lane `other` is at the meeting where `lane` waits.
bool meets(const WarpMeeting& warp, int lane, int other) {
  return ((warp.waiting >> other) & 1) != 0 && warp.meeting[other] == warp.meeting[lane] &&
         warp.mask[other] == warp.mask[lane];
}

// Nothing can run, and not all have ended: says why.
[[noreturn]] void explain_stuck(int threads) {
  for (int t = 0; t < threads; ++t) {
    const WarpMeeting& warp = meetings[t / kLanes];
    const int lane = t % kLanes;
    if ((warp.waiting & bit_of(t)) == 0) continue;
    for (int other = 0; other < kLanes; ++other) {
      if (((warp.mask[lane] >> other) & 1) == 0 || meets(warp, lane, other)) continue;
      const int absent = t - lane + other;
      fail_of(t, state_of(t) + ", whose lane " + std::to_string(other) +
                     " does not take part: thread " + std::to_string(absent) + " " +
                     state_of(absent));
    }
  }
  int absent = 0;
  while (at_barrier[absent]) ++absent;
  fail_of(barrier_first, "divergent barrier: " + state_of(barrier_first) + ", but thread " +
                             std::to_string(absent) + " " + state_of(absent));
}

void step_time() {
  if (clock.now + kTimeStep >= clock.block_begin + kBlockStep) {
    fail("more barriers than the emulation can count");
  }
  clock.now += kTimeStep;
}

void release_block(int threads) {
  step_time();
  clock.block_barrier = clock.warp_barrier = clock.now & ~kThreadMask;
  barrier_count = 0;
  std::fill_n(at_barrier, threads, false);
  for (int first = 0; first < threads; first += kLanes) {
    Warp& warp = warp_of(first);
    warp.ready = warp.lanes;
    warp.barrier = clock.block_barrier;
  }
}

}  // namespace

void meet_block(Site site) {
  if (barrier_count == 0) {
    barrier_site = site;
    barrier_first = running;
  } else if (site.line != barrier_site.line) {
    fail("divergent barrier: comes to __syncthreads of " + place(site) + ", but thread " +
         std::to_string(barrier_first) + " " + state_of(barrier_first));
  }
  at_barrier[running] = true;
  ++barrier_count;
  leave();
}

int lane_index() { return running % kLanes; }

Lane& meet_warp(Meeting meeting, unsigned mask, const Lane& brought, Site site,
                void (*act)(Lane* lanes, unsigned mask)) {
  Warp& lanes = warp_of(running);
  WarpMeeting& warp = meetings[running / kLanes];
  const int lane = running % kLanes;
  const unsigned bit = bit_of(running);
  if ((mask & bit) == 0) {
    fail(named(meeting, site, mask) + ", which does not name the thread's own lane " +
         std::to_string(lane));
  }
  if ((mask & ~lanes.lanes) != 0) {
    fail(named(meeting, site, mask) + ", but the warp has only lanes " + hexadecimal(lanes.lanes));
  }
  warp.brought[lane] = brought;
  warp.meeting[lane] = meeting;
  warp.mask[lane] = mask;
  warp.site[lane] = site;
  warp.waiting |= bit;
  bool complete = (warp.waiting & mask) == mask;
  for (unsigned rest = mask; complete && rest != 0; rest &= rest - 1) {
    complete = meets(warp, lane, __builtin_ctz(rest));
  }
  if (!complete) {
    leave();
    return warp.brought[lane];
  }
  act(warp.brought, mask);
  clock.now = (clock.now & ~kThreadMask) | static_cast<Stamp>(running);  // `act` was others, too
  if (meeting == Meeting::kSyncWarp && mask == lanes.lanes) {
    step_time();
    lanes.barrier = clock.warp_barrier = clock.now & ~kThreadMask;
  }
  warp.waiting &= ~mask;
  lanes.ready |= mask & ~bit;
  return warp.brought[lane];
}

void maybe_pause() {
  if (random_below(4) != 0) return;
  const bool other_warp = random_below(4) == 0;
  const int next = next_ready(running / kLanes, running % kLanes);
  if (!other_warp && next < 0) return;
  warp_of(running).ready |= bit_of(running);
  change_to(other_warp ? -1 : next);
}

void run_block(int threads, void (*kernel)(void*), void* arguments, std::vector<int>& warp_order) {
  begin_block_stamps();
  begin_threads(threads, kernel, arguments);
  std::fill_n(at_barrier, threads, false);
  barrier_count = 0;
  for (int w : warp_order) meetings[w].waiting = 0;
  while (ended_threads < threads) {
    std::shuffle(warp_order.begin(), warp_order.end(), random_order);
    bool ran = false;
    for (int w : warp_order) {
      if (warps[w].ready == 0) continue;
      ran = true;
      run_from(next_ready(w, random_below(kLanes)));
    }
    if (ran) continue;
    if (barrier_count < threads) explain_stuck(threads);
    release_block(threads);
  }
  end_copies();
}

}  // namespace uov::cuda::emulated
