#include "cuda/emulation/block.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "cuda/emulation/device.h"
#include "cuda/emulation/failure.h"
#include "cuda/emulation/fibre.h"

namespace uov::cuda::emulated {
namespace {

constexpr int kLanes = 32, kMostThreads = 1024, kMostWarps = kMostThreads / kLanes;
constexpr int64_t kMostStaticShared = 48 * 1024;

struct Warp {
  unsigned lanes = 0;    // that there are
  unsigned ready = 0;    // can run, but do not
  unsigned waiting = 0;  // at a meeting of the warp
  unsigned ended = 0;
  Stamp barrier = 0;
  Lane brought[kLanes];
  Meeting meeting[kLanes];
  unsigned mask[kLanes];
  Site site[kLanes];
};

struct Thread {
  Fibre fibre;
  int stack = 0;  // once it has begun
  bool begun = false;
  Site barrier;  // where it waits for the block
  bool at_barrier = false;
  std::vector<Copy> copies;
  std::vector<int> groups;  // how many of `copies` each group that was committed has
};

struct SharedArray {
  const void* key;
  int64_t offset;
};

// All of it belongs to whoever holds `grids`.
std::mutex grids;
uint64_t order_seed = std::random_device{}();
uint64_t launches = 0;
std::minstd_rand random_order;

const Grid* grid = nullptr;
Fibre scheduler;
Stacks stacks;
std::vector<int> spare_stacks;
int used_stacks = 0;
int pending_copies = 0;
Thread threads[kMostThreads];
Warp warps[kMostWarps];
int running = -1;
int at_barrier = 0, ended = 0;
std::vector<SharedArray> shared_arrays;
int64_t shared_end = 0;
std::exception_ptr failure;

Warp& warp_of(int thread) { return warps[thread / kLanes]; }
unsigned bit_of(int thread) { return 1u << (thread % kLanes); }
int random_below(int n) { return static_cast<int>(random_order() % static_cast<unsigned>(n)); }

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
    case Meeting::kNone:
      break;
  }
  return "nothing";
}

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

// Goes on with a thread of the running one's block, or with the scheduler (-1); comes back when
// that chooses the running one again.
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

// The lane of the warp that is ready and next from `lane` on, or -1.
int next_ready(int warp, int lane) {
  const unsigned ready = warps[warp].ready;
  if (ready == 0) return -1;
  const unsigned later = ready & ~((2u << lane) - 1);
  return warp * kLanes + __builtin_ctz(later != 0 ? later : ready);
}
int next_ready() { return next_ready(running / kLanes, running % kLanes); }

// Leaves the running thread.
void leave() { change_to(next_ready()); }

// Where a stack begins: with one thread, then with those that have not begun when one has ended.
void thread_main() {
  for (;;) {
    try {
      grid->kernel(grid->arguments);
    } catch (...) {
      failure = std::current_exception();
      change_to(-1);
    }
    warp_of(running).ended |= bit_of(running);
    ++ended;
    const int next = next_ready(), stack = threads[running].stack;
    if (next < 0 || threads[next].begun) {
      spare_stacks.push_back(stack);
      change_to(next);
    }
    become(next);
    threads[next].begun = true;
    threads[next].stack = stack;
  }
}

void step_time() {
  if (((clock.now >> kTimeShift) + 1) << kTimeShift >= clock.block_begin + kBlockStep) {
    fail("more barriers than the emulation can count");
  }
  clock.now += kTimeStep;
}

std::string where(int thread) {
  if ((warp_of(thread).ended & bit_of(thread)) != 0) return "has ended";
  if (threads[thread].at_barrier)
    return "waits at __syncthreads of " + place(threads[thread].barrier);
  const Warp& warp = warp_of(thread);
  const int lane = thread % kLanes;
  return "waits at " + std::string(name_of(warp.meeting[lane])) + " of " + place(warp.site[lane]) +
         " with mask " + hexadecimal(warp.mask[lane]);
}

// Nothing can run, and not all have ended: says why.
[[noreturn]] void explain_stuck() {
  for (int t = 0; t < grid->threads; ++t) {
    const Warp& warp = warp_of(t);
    if ((warp.waiting & bit_of(t)) == 0) continue;
    const int lane = t % kLanes;
    for (int other = 0; other < kLanes; ++other) {
      const bool meets = ((warp.waiting >> other) & 1) != 0 &&
                         warp.meeting[other] == warp.meeting[lane] &&
                         warp.mask[other] == warp.mask[lane];
      if (meets || ((warp.mask[lane] >> other) & 1) == 0) continue;
      running = t;
      threadIdx.x = static_cast<unsigned>(t);
      const int absent = t - lane + other;
      fail(where(t) + ", whose lane " + std::to_string(other) + " does not take part: thread " +
           std::to_string(absent) + " " + where(absent));
    }
  }
  int waits = 0;
  while (!threads[waits].at_barrier) ++waits;
  int absent = 0;
  while (threads[absent].at_barrier) ++absent;
  running = waits;
  threadIdx.x = static_cast<unsigned>(waits);
  fail("divergent barrier: " + where(waits) + ", but thread " + std::to_string(absent) + " " +
       where(absent));
}

void release_block() {
  clock.block_barrier = clock.warp_barrier = clock.now & ~kThreadMask;
  at_barrier = 0;
  for (int t = 0; t < grid->threads; ++t) threads[t].at_barrier = false;
  for (int w = 0; w * kLanes < grid->threads; ++w) {
    warps[w].ready = warps[w].lanes;
    warps[w].barrier = clock.block_barrier;
  }
}

// What no thread waited for has landed once the block is over; the next one begins with nothing.
void end_copies() {
  if (pending_copies == 0) return;
  for (Thread& thread : threads) {
    for (const Copy& copy : thread.copies) {
      for (int b = 0; b < copy.bytes; b += 4) {
        *shared_cell(static_cast<const char*>(copy.to) + b) = {};
      }
    }
    thread.copies.clear();
    thread.groups.clear();
  }
  pending_copies = 0;
}

void run_block(std::vector<int>& order) {
  begin_block_stamps();
  shared_arrays.clear();
  shared_end = (grid->shared_bytes + 15) / 16 * 16;
  at_barrier = ended = 0;
  spare_stacks.clear();
  used_stacks = 0;
  for (int t = 0; t < grid->threads; ++t) {
    threads[t].begun = false;
    threads[t].at_barrier = false;
  }
  for (int w : order) {
    Warp& warp = warps[w];
    const int lanes = std::min(kLanes, grid->threads - w * kLanes);
    warp.lanes = warp.ready = lanes == kLanes ? ~0u : (1u << lanes) - 1;
    warp.waiting = warp.ended = 0;
    warp.barrier = clock.warp_barrier;
  }
  while (ended < grid->threads) {
    std::shuffle(order.begin(), order.end(), random_order);
    bool ran = false;
    for (int w : order) {
      if (warps[w].ready == 0) continue;
      ran = true;
      change_to(next_ready(w, random_below(kLanes)));
      if (failure != nullptr) std::rethrow_exception(failure);
    }
    if (ran) continue;
    if (at_barrier < grid->threads) explain_stuck();
    step_time();
    release_block();
  }
  end_copies();
}

void check_limits() {
  const auto refuse = [](const std::string& what) {
    throw KernelError("launch of " + std::string(grid->name) + ": " + what);
  };
  if (grid->threads < 1 || grid->threads > kMostThreads) {
    refuse(std::to_string(grid->threads) + " threads a block; 1 to 1024 are possible");
  }
  if (grid->x > 0x7fffffffu || grid->y > 0xffffu || grid->z > 0xffffu) {
    refuse("more blocks than a grid can have");
  }
  if (grid->shared_bytes < 0 || grid->shared_bytes > kSharedBytes) {
    refuse(std::to_string(grid->shared_bytes) + " bytes of shared memory; all devices have " +
           std::to_string(kSharedBytes));
  }
}

}  // namespace

std::string hexadecimal(unsigned value) {
  std::string text = "0x00000000";
  for (size_t i = 9; i > 1; --i, value >>= 4) text[i] = "0123456789abcdef"[value & 15];
  return text;
}

void fail(const std::string& what) {
  std::string text = "kernel ";
  text += grid == nullptr ? "?" : grid->name;
  text += ", block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
          std::to_string(blockIdx.z) + "), thread " + std::to_string(threadIdx.x) + ": " + what +
          " (order " + std::to_string(order_seed) + ", launch " + std::to_string(launches) + ")";
  throw KernelError(text);
}

int lane_index() { return running % kLanes; }

void meet_block(Site site) {
  Thread& thread = threads[running];
  for (int t = 0; at_barrier > 0 && t < grid->threads; ++t) {
    if (!threads[t].at_barrier) continue;
    if (threads[t].barrier.line == site.line) break;
    fail("divergent barrier: comes to __syncthreads of " + place(site) + ", but thread " +
         std::to_string(t) + " " + where(t));
  }
  thread.barrier = site;
  thread.at_barrier = true;
  ++at_barrier;
  leave();
}

Lane& meet_warp(Meeting meeting, unsigned mask, const Lane& brought, Site site,
                void (*act)(Lane* lanes, unsigned mask)) {
  Warp& warp = warp_of(running);
  const int lane = running % kLanes;
  if ((mask & bit_of(running)) == 0) {
    fail(std::string(name_of(meeting)) + " of " + place(site) + " with mask " + hexadecimal(mask) +
         ", which does not name the thread's own lane " + std::to_string(lane));
  }
  if ((mask & ~warp.lanes) != 0) {
    fail(std::string(name_of(meeting)) + " of " + place(site) + " with mask " + hexadecimal(mask) +
         ", but the warp has only lanes " + hexadecimal(warp.lanes));
  }
  warp.brought[lane] = brought;
  warp.meeting[lane] = meeting;
  warp.mask[lane] = mask;
  warp.site[lane] = site;
  warp.waiting |= bit_of(running);
  bool complete = (warp.waiting & mask) == mask;
  for (unsigned rest = mask; complete && rest != 0; rest &= rest - 1) {
    const int other = __builtin_ctz(rest);
    complete = warp.meeting[other] == meeting && warp.mask[other] == mask;
  }
  if (!complete) {
    leave();
    return warp.brought[lane];
  }
  act(warp.brought, mask);
  clock.now = (clock.now & ~kThreadMask) | static_cast<Stamp>(running);  // `act` was others, too
  if (meeting == Meeting::kSyncWarp && mask == warp.lanes) {
    step_time();
    warp.barrier = clock.warp_barrier = clock.now & ~kThreadMask;
  }
  warp.waiting &= ~mask;
  warp.ready |= mask & ~bit_of(running);
  return warp.brought[lane];
}

void maybe_pause() {
  if (random_below(4) != 0) return;
  const bool other_warp = random_below(4) == 0;
  const int next = next_ready();
  if (!other_warp && next < 0) return;
  warp_of(running).ready |= bit_of(running);
  change_to(other_warp ? -1 : next);
}

void add_copy(const Copy& copy) {
  threads[running].copies.push_back(copy);
  ++pending_copies;
}

void commit_copies() {
  Thread& thread = threads[running];
  int committed = 0;
  for (int group : thread.groups) committed += group;
  thread.groups.push_back(static_cast<int>(thread.copies.size()) - committed);
}

void wait_for_copies(int pending) {
  Thread& thread = threads[running];
  const int landing = static_cast<int>(thread.groups.size()) - pending;
  if (landing <= 0) return;
  int copies = 0;
  for (int g = 0; g < landing; ++g) copies += thread.groups[g];
  for (int c = 0; c < copies; ++c) {
    const Copy& copy = thread.copies[c];
    if (copy.from == nullptr) {
      std::memset(copy.to, 0, copy.bytes);
    } else {
      std::memcpy(copy.to, copy.from, copy.bytes);
    }
    for (int b = 0; b < copy.bytes; b += 4) {
      land_copy(*shared_cell(static_cast<const char*>(copy.to) + b));
    }
  }
  pending_copies -= copies;
  thread.copies.erase(thread.copies.begin(), thread.copies.begin() + copies);
  thread.groups.erase(thread.groups.begin(), thread.groups.begin() + landing);
}

void* static_shared(const void* key, int64_t bytes) {
  for (const SharedArray& array : shared_arrays) {
    if (array.key == key) return shared_memory + array.offset;
  }
  const int64_t offset = shared_end;
  shared_end += (bytes + 15) / 16 * 16;
  const int64_t of_launch = (grid->shared_bytes + 15) / 16 * 16;
  if (shared_end - of_launch > kMostStaticShared || shared_end > kSharedBytes) {
    fail(std::to_string(shared_end - of_launch) + " bytes of shared memory beside the launch's " +
         std::to_string(of_launch) + "; there may be " + std::to_string(kMostStaticShared) +
         ", together " + std::to_string(kSharedBytes));
  }
  shared_arrays.push_back({key, offset});
  return shared_memory + offset;
}

void* dynamic_shared(int64_t* bytes) {
  *bytes = grid->shared_bytes;
  return shared_memory;
}

void use_order(uint64_t seed) {
  const std::lock_guard<std::mutex> lock(grids);
  order_seed = seed;
  launches = 0;
}

void run(const Grid& what) {
  const std::lock_guard<std::mutex> lock(grids);
  grid = &what;
  running = -1;
  failure = nullptr;
  end_copies();  // of a grid that failed
  check_limits();
  random_order.seed(static_cast<unsigned>(order_seed * 7919 + ++launches));
  random_order.discard(2);
  const int64_t blocks = int64_t{what.x} * what.y * what.z;
  begin_launch_stamps(blocks);
  std::vector<int64_t> block_order(blocks);
  for (int64_t b = 0; b < blocks; ++b) block_order[b] = b;
  std::shuffle(block_order.begin(), block_order.end(), random_order);
  std::vector<int> warp_order((what.threads + kLanes - 1) / kLanes);
  for (size_t w = 0; w < warp_order.size(); ++w) warp_order[w] = static_cast<int>(w);
  gridDim = dim3(what.x, what.y, what.z);
  blockDim = dim3(what.threads);
  threadIdx = {};
  for (int64_t b : block_order) {
    blockIdx.x = static_cast<unsigned>(b % what.x);
    blockIdx.y = static_cast<unsigned>(b / what.x % what.y);
    blockIdx.z = static_cast<unsigned>(b / what.x / what.y);
    run_block(warp_order);
  }
}

void mark_outside(const void* data, size_t bytes) {
  const std::lock_guard<std::mutex> lock(grids);
  mark(data, bytes, kOutside);
}

void mark_unwritten(void* data, size_t bytes) {
  const std::lock_guard<std::mutex> lock(grids);
  mark(data, bytes, kUnwritten);
}

}  // namespace uov::cuda::emulated
