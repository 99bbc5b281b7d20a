#include "cuda/emulation/shadow.h"

#include <algorithm>
#include <deque>
#include <iterator>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "cuda/emulation/failure.h"

namespace uov::cuda::emulated {
namespace {

constexpr size_t kPageWords = (size_t{1} << kPageShift) / 4;
// Cells take four times the memory that they watch: with these, a quarter of a gigabyte, and then
// those that tell nothing are given up; at most four times as much.
constexpr size_t kManyPages = 4096, kMostPages = 4 * kManyPages;

struct Bytes {
  Cell cells[4];
};

std::unordered_map<uintptr_t, std::unique_ptr<Cell[]>> pages;
std::deque<Bytes> bytes_of_words;  // stay where they are
std::vector<Cell*> spare_bytes;

Cell* bytes_of(const Cell& word) { return reinterpret_cast<Cell*>(word.read); }

// From now on each byte of the word has a cell of its own.
void split(Cell& word) {
  if (word.write == kSplit) return;
  Cell* cells;
  if (spare_bytes.empty()) {
    cells = bytes_of_words.emplace_back().cells;
  } else {
    cells = spare_bytes.back();
    spare_bytes.pop_back();
  }
  std::fill_n(cells, 4, word);
  word = {kSplit, reinterpret_cast<Stamp>(cells)};
}

void join(Cell& word, Cell whole) {
  if (word.write == kSplit) spare_bytes.push_back(bytes_of(word));
  word = whole;
}

Stamp thread_of(Stamp stamp) { return stamp & kThreadMask; }
uint32_t several(Stamp stamp) { return static_cast<uint32_t>((stamp & kSeveral) >> kThreadBits); }
bool pending(Stamp stamp) { return stamp >= kPending; }
bool mine(Stamp stamp) { return thread_of(stamp) == thread_of(clock.now); }
bool same_warp(Stamp stamp) { return thread_of(stamp) / 32 == thread_of(clock.now) / 32; }

// Whether all of whom the stamp tells came before the running thread.
bool ordered(Space space, Stamp stamp) {
  if (stamp < (space == Space::kShared ? clock.block_begin : clock.launch_begin)) return true;
  if (stamp < clock.block_begin || several(stamp) == kGrid) return false;
  if (stamp < clock.block_barrier) return true;
  if (several(stamp) == kOne && mine(stamp)) return true;
  return several(stamp) <= kWarp && same_warp(stamp) && stamp < clock.warp_barrier;
}

// The running thread's stamp, and that of others of whom not all came before.
Stamp joined(Stamp others) {
  uint32_t whose = kBlock;
  if (others < clock.block_begin) {
    whose = kGrid;
  } else if (same_warp(others)) {
    whose = mine(others) ? kOne : kWarp;
  }
  return clock.now | Stamp{std::max(whose, several(others))} << kThreadBits;
}

bool unwritten(Space space, Stamp write) {
  return write == kUnwritten || (space == Space::kShared && write < clock.block_begin);
}

Conflict read_cell(Space space, Cell& cell, bool record) {
  if (pending(cell.write)) return {"read of what a copy on its way will write", cell.write};
  if (unwritten(space, cell.write)) return {"read of what nothing wrote", kUnwritten};
  if (!ordered(space, cell.write)) {
    return {"read of what was written with no barrier between", cell.write};
  }
  if (record) cell.read = ordered(space, cell.read) ? clock.now : joined(cell.read);
  return {};
}

Conflict read_atomically(Space space, Cell& cell) {
  // Of atomics' writes alone it need not be told which came first.
  const bool of_atomics = (cell.write & kAtomic) != 0 && !pending(cell.write);
  Cell seen = {of_atomics ? kOutside : cell.write, 0};
  if (of_atomics && space == Space::kShared) seen.write = clock.now;
  if (const Conflict conflict = read_cell(space, seen, false); conflict.what != nullptr) {
    return conflict;
  }
  if (ordered(space, cell.read)) {
    cell.read = clock.now | kAtomic;
  } else {
    cell.read = joined(cell.read) | (cell.read & kAtomic);
  }
  return {};
}

Conflict writable(Space space, const Cell& cell) {
  if (pending(cell.write)) return {"write to what a copy on its way will write", cell.write};
  if (!ordered(space, cell.write)) {
    return {"write over what was written with no barrier between", cell.write};
  }
  if (!ordered(space, cell.read)) {
    return {"write over what was read with no barrier between", cell.read};
  }
  return {};
}

Conflict update_cell(Space space, Cell& cell) {
  if (pending(cell.write)) return {"update of what a copy on its way will write", cell.write};
  if (unwritten(space, cell.write)) return {"update of what nothing wrote", kUnwritten};
  const bool after = ordered(space, cell.write);
  if (!after && (cell.write & kAtomic) == 0) {
    return {"update of what was written with no barrier between", cell.write};
  }
  if (!ordered(space, cell.read) && (cell.read & kAtomic) == 0) {
    return {"update of what was read with no barrier between", cell.read};
  }
  cell = {(after ? clock.now : joined(cell.write)) | kAtomic, 0};
  return {};
}

template <typename Check>
Conflict for_bytes(Cell& word, unsigned bytes, Check check) {
  if (word.write != kSplit && bytes == 15) return check(word);
  split(word);
  for (int b = 0; b < 4; ++b) {
    if (((bytes >> b) & 1) == 0) continue;
    if (const Conflict conflict = check(bytes_of(word)[b]); conflict.what != nullptr) {
      return conflict;
    }
  }
  return {};
}

}  // namespace

Conflict read_word(Space space, Cell& word, unsigned bytes, bool record) {
  return for_bytes(word, bytes, [&](Cell& cell) { return read_cell(space, cell, record); });
}

Conflict write_word(Space space, Cell& word, unsigned bytes) {
  const Conflict conflict = for_bytes(word, bytes, [&](Cell& cell) {
    const Conflict found = writable(space, cell);
    if (found.what == nullptr) cell = {clock.now, 0};
    return found;
  });
  if (conflict.what == nullptr && bytes == 15) join(word, {clock.now, 0});
  return conflict;
}

Conflict update_word(Space space, Cell& word, unsigned bytes) {
  return for_bytes(word, bytes, [&](Cell& cell) { return update_cell(space, cell); });
}

Conflict read_word_atomically(Space space, Cell& word, unsigned bytes) {
  return for_bytes(word, bytes, [&](Cell& cell) { return read_atomically(space, cell); });
}

Cell* find_page(uintptr_t number, bool make) {
  Page& cached = cached_pages[number % kCachedPages];
  const auto found = pages.find(number);
  if (found != pages.end()) {
    cached = {number, found->second.get()};
  } else if (make) {
    auto cells = std::make_unique<Cell[]>(kPageWords);
    std::fill_n(cells.get(), kPageWords, Cell{kOutside, 0});
    cached = {number, cells.get()};
    pages.emplace(number, std::move(cells));
  } else {
    cached = {number, nullptr};
  }
  return cached.cells;
}

namespace {

// Calls visit(cell, bytes) for all words of [data, data + bytes) that are watched, `bytes` being a
// bit for each of a word's that belong to them, until it returns false.
template <typename Visit>
void for_words(const void* data, size_t bytes, bool make, Visit visit) {
  const auto begin = reinterpret_cast<uintptr_t>(data), end = begin + bytes;
  for (uintptr_t word = begin & ~uintptr_t{3}; word < end;) {
    Cell* cell = global_cell(reinterpret_cast<const void*>(word), make);
    const uintptr_t next_page = ((word >> kPageShift) + 1) << kPageShift;
    if (cell == nullptr) {
      word = next_page;
      continue;
    }
    for (; word < std::min(next_page, end); word += 4, ++cell) {
      unsigned mine = 15;
      if (word < begin) mine &= 15u << (begin - word);
      if (word + 4 > end) mine &= 15u >> (word + 4 - end);
      if (!visit(*cell, word, mine)) return;
    }
  }
}

Cell settled(const Cell& cell) { return {cell.write == kUnwritten ? kUnwritten : kOutside, 0}; }

// Between launches all that was written or read came before, and needs no stamp; only that nothing
// wrote some of it must be kept. Returns whether the page says so of anything.
bool settle(Cell* cells) {
  bool unwritten = false;
  for (size_t w = 0; w < kPageWords; ++w) {
    Cell& word = cells[w];
    if (word.write == kSplit) {
      Cell* bytes = bytes_of(word);
      std::transform(bytes, bytes + 4, bytes, settled);
      const auto is = [&](Stamp write) {
        return std::all_of(bytes, bytes + 4, [&](const Cell& b) { return b.write == write; });
      };
      if (is(kOutside) || is(kUnwritten)) join(word, bytes[0]);
    } else {
      word = settled(word);
    }
    unwritten = unwritten || word.write != kOutside;
  }
  return unwritten;
}

// Between launches: gives up the stamps, and the pages that then tell nothing.
void settle_all() {
  for (auto page = pages.begin(); page != pages.end();) {
    page = settle(page->second.get()) ? std::next(page) : pages.erase(page);
  }
  std::fill_n(cached_pages, kCachedPages, Page{});
  std::fill(std::begin(shared_cells), std::end(shared_cells), Cell{});
  clock = {};
}

// When so many are there, they are looked through.
size_t many_pages = kManyPages;

void make_room(size_t bytes) {
  const size_t more = (bytes >> kPageShift) + 2;
  if (pages.size() + more <= many_pages) return;
  settle_all();
  if (pages.size() + more > kMostPages) {
    throw KernelError("the emulation watches no more than " +
                      std::to_string(kMostPages >> (20 - kPageShift)) +
                      " MiB: use fewer rows or channels");
  }
  many_pages = std::max(kManyPages, 2 * (pages.size() + more));
}

}  // namespace

void mark(const void* data, size_t bytes, Stamp write) {
  const bool make = write != kOutside;
  if (make) make_room(bytes);
  for_words(data, bytes, make, [&](Cell& word, uintptr_t, unsigned mine) {
    if (mine == 15) {
      join(word, {write, 0});
    } else {
      split(word);
      for (int b = 0; b < 4; ++b) {
        if (((mine >> b) & 1) != 0) bytes_of(word)[b] = {write, 0};
      }
    }
    return true;
  });
}

int64_t first_unwritten(const void* data, size_t bytes) {
  int64_t found = -1;
  for_words(data, bytes, false, [&](Cell& word, uintptr_t address, unsigned mine) {
    for (int b = 0; b < 4 && found < 0; ++b) {
      if (((mine >> b) & 1) == 0) continue;
      const Cell& cell = word.write == kSplit ? bytes_of(word)[b] : word;
      if (cell.write == kUnwritten) {
        found = static_cast<int64_t>(address + b - reinterpret_cast<uintptr_t>(data));
      }
    }
    return found < 0;
  });
  return found;
}

void begin_launch_stamps(int64_t blocks) {
  const Stamp last = clock.block_begin >> kBlockShift;
  if (last + static_cast<Stamp>(blocks) > kLastBlock) settle_all();
  clock.launch_begin = clock.block_begin + kBlockStep;
}

void begin_block_stamps() {
  clock.block_begin += kBlockStep;
  clock.block_barrier = clock.warp_barrier = clock.now = clock.block_begin + kTimeStep;
}

}  // namespace uov::cuda::emulated
