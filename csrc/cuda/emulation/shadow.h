// What is known of each byte of memory: who wrote it last, who read it since, and whether a barrier
// lies between that and the thread that touches it now.
//
// Blocks run one after the other, but no block may rely on another of its launch; the threads of a
// block run in turns, but none may rely on another without a barrier. So every access leaves a
// stamp with the block, the number of barriers that the block had passed, and the thread. An access
// came before the running thread's if it was of an earlier launch, or of the same block before its
// last
// __syncthreads, or of the same warp before its last __syncwarp, or of the thread itself.
//
// Memory is watched by words of four bytes, and by bytes once something narrower touches a word.
#pragma once

#include <cstddef>
#include <cstdint>

namespace uov::cuda::emulated {

// Upper bits count, so that later stamps are larger: block (of all launches), barriers passed in
// it, then flags and the thread.
using Stamp = uint64_t;
inline constexpr int kThreadBits = 10, kTimeShift = 14, kBlockShift = 36;
inline constexpr Stamp kThreadMask = (Stamp{1} << kThreadBits) - 1;
// Of whom the access was: one thread, or several of one warp, of one block, of the launch.
enum Several : uint32_t { kOne, kWarp, kBlock, kGrid };
inline constexpr Stamp kSeveral = Stamp{3} << kThreadBits;
inline constexpr Stamp kAtomic = Stamp{1} << (kThreadBits + 2);
inline constexpr Stamp kTimeStep = Stamp{1} << kTimeShift, kBlockStep = Stamp{1} << kBlockShift;
inline constexpr Stamp kLastBlock = (Stamp{1} << (64 - kBlockShift)) - 2;
// Writes that no barrier brings into order: a word watched by bytes; what a copy, of the thread in
// the lowest bits, is going to write.
inline constexpr Stamp kSplit = ~Stamp{0}, kPending = ~Stamp{0xffff};
// Memory that something outside of kernels wrote; and memory that nothing wrote.
inline constexpr Stamp kOutside = 1, kUnwritten = 0;

struct Cell {
  Stamp write, read;  // kSplit: `read` points to the cells of four bytes
};

// Where the running thread stands.
struct Clock {
  Stamp now;                          // its next stamp
  Stamp launch_begin;                 // earlier stamps are of earlier launches
  Stamp block_begin;                  // earlier ones of other blocks
  Stamp block_barrier, warp_barrier;  // earlier ones lie before the last barrier
};
inline Clock clock;

enum class Space { kGlobal, kShared };

// What is wrong with an access, and with whose; `what` is null if nothing is.
struct Conflict {
  const char* what = nullptr;
  Stamp other = 0;
};

// Slow but complete. `bytes`: a bit for each byte of the word.
Conflict read_word(Space space, Cell& cell, unsigned bytes, bool record);
Conflict write_word(Space space, Cell& cell, unsigned bytes);
// By atomics, which may meet others.
Conflict update_word(Space space, Cell& cell, unsigned bytes);
Conflict read_word_atomically(Space space, Cell& cell, unsigned bytes);

// Most accesses are of words that were written before the last barrier, or in another launch. Of
// shared memory, what another block left is no more than what nothing wrote.
inline bool before_barrier(Stamp stamp) {
  return stamp - clock.block_begin < clock.block_barrier - clock.block_begin;
}
template <Space space>
bool settled(Stamp stamp) {
  if (space == Space::kShared) return stamp < clock.block_barrier;
  return stamp < clock.launch_begin || before_barrier(stamp);
}
// Whether one more plain read tells nothing new: of several threads of the block, or of the running
// thread's warp, since their last barrier.
inline bool read_by_several(Stamp stamp) {
  constexpr Stamp kHow = kSeveral | kAtomic;
  if ((stamp & kHow) == Stamp{kBlock} << kThreadBits) return stamp >= clock.block_barrier;
  return (stamp & kHow) == Stamp{kWarp} << kThreadBits && stamp >= clock.warp_barrier &&
         ((stamp ^ clock.now) & (kThreadMask & ~Stamp{31})) == 0;
}

template <Space space>
inline Conflict check_read(Cell& cell, bool record) {
  const bool plain = before_barrier(cell.write) ||
                     (space == Space::kGlobal && cell.write - 1 < clock.launch_begin - 1);
  if (!plain) return read_word(space, cell, 15, record);
  if (!record || cell.read == clock.now) return {};
  if (settled<space>(cell.read)) {
    cell.read = clock.now;
    return {};
  }
  return read_by_several(cell.read) ? Conflict{} : read_word(space, cell, 15, record);
}

template <Space space>
inline Conflict check_write(Cell& cell) {
  if (!settled<space>(cell.write) || !settled<space>(cell.read)) return write_word(space, cell, 15);
  cell = {clock.now, 0};
  return {};
}

// To a word of shared memory, and once it has landed.
inline Conflict begin_copy(Cell& cell) {
  const Conflict conflict = check_write<Space::kShared>(cell);
  if (conflict.what == nullptr) cell.write = kPending | (clock.now & kThreadMask);
  return conflict;
}
inline void land_copy(Cell& cell) { cell = {clock.now, 0}; }

// Shared memory of the block that runs.
inline constexpr int64_t kSharedBytes = 99 * 1024;  // the most that sm_86, 89 and 120 give a block
alignas(16) inline unsigned char shared_memory[kSharedBytes];
inline Cell shared_cells[kSharedBytes / 4];
inline Cell* shared_cell(const void* address) {
  return shared_cells + (static_cast<const unsigned char*>(address) - shared_memory) / 4;
}

// Global memory is watched in pages, made when something first writes there.
inline constexpr int kPageShift = 14, kCachedPages = 4096;
struct Page {
  uintptr_t number = 0;
  Cell* cells = nullptr;
};
inline Page cached_pages[kCachedPages];
Cell* find_page(uintptr_t number, bool make);

// The word's cell, or null if nothing watches it and nothing was to begin.
inline Cell* global_cell(const void* pointer, bool make) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  const uintptr_t number = address >> kPageShift;
  const Page& page = cached_pages[number % kCachedPages];
  Cell* cells = page.number == number ? page.cells : find_page(number, make);
  if (cells == nullptr) {
    if (!make) return nullptr;
    cells = find_page(number, make);
  }
  return cells + (address % (uintptr_t{1} << kPageShift)) / 4;
}

// [data, data + bytes) was written by what is no kernel, or is memory that nothing wrote yet.
void mark(const void* data, size_t bytes, Stamp write);
// The first of these bytes that nothing wrote, or -1.
int64_t first_unwritten(const void* data, size_t bytes);

// Of a new launch.
void begin_launch_stamps(int64_t blocks);
// Of its next block.
void begin_block_stamps();

}  // namespace uov::cuda::emulated
