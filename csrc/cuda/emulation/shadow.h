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
Conflict begin_copy(Cell& cell);  // to a word of shared memory
inline void land_copy(Cell& cell) { cell = {clock.now, 0}; }

// Most accesses: of a word that was written before the last barrier.
inline bool before_barrier(Stamp stamp) {
  return stamp - clock.block_begin < clock.block_barrier - clock.block_begin;
}
inline bool before_launch(Stamp stamp) { return stamp < clock.launch_begin; }

template <Space space>
inline Conflict check_read(Cell& cell, bool record) {
  const bool plain = before_barrier(cell.write) ||
                     (space == Space::kGlobal && cell.write - 1 < clock.launch_begin - 1);
  if (!plain) return read_word(space, cell, 15, record);
  if (!record || cell.read == clock.now) return {};
  if (!before_launch(cell.read) && !before_barrier(cell.read)) {
    return read_word(space, cell, 15, record);
  }
  cell.read = clock.now;
  return {};
}

template <Space space>
inline Conflict check_write(Cell& cell) {
  const bool plain = (before_barrier(cell.write) || before_launch(cell.write)) &&
                     (before_barrier(cell.read) || before_launch(cell.read));
  if (!plain) return write_word(space, cell, 15);
  cell = {clock.now, 0};
  return {};
}

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

// Of a new launch; forgets old ones where stamps or memory would run out.
void begin_launch_stamps(int64_t blocks);
// Of its next block.
void begin_block_stamps();

}  // namespace uov::cuda::emulated
