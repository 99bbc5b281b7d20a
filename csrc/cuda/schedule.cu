// The order of rows by their neighbours, and the pairs of every offset.
//
// All kernels here are bound by their bytes: the map, 4 * K a row, is read three times, 39 MB for
// 27 offsets of 120,000 rows, 12 microseconds of an H100's memory. The sort of 64-bit keys moves
// another 24 bytes a row for every 8 bits of them, and its launches take longer than that.
#include <algorithm>

#include "core/parallel.h"
#include "cuda/device.h"
#include "cuda/fault.h"
#include "cuda/primitives.h"
#include "cuda/schedule.h"
#include "cuda/tiles.h"
#include "cuda/workspace.h"

namespace uov::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
// A block looks at so many rows of one offset.
constexpr int kRounds = 4;
constexpr int kChunkRows = kRounds * kThreads;
constexpr int kKeyBits = 64;
// Rows are ordered within stretches of so many: rows of 96 float32 channels are 25 MB then, half of
// an H100's second-level cache. Shorter ones would have fewer rows of each mask.
constexpr int kStretchBits = 16;

// Bits of a row's key, from the lowest on: its offsets, of which the rarest are the highest, as a
// place in the Gray code's order, and its stretch. Rows that are next to each other agree in the
// highest bits, and differ in one bit from one mask to the next. So tiles differ in offsets that
// most rows have anyway, and those that few have are in few tiles: of a nuScenes sweep's 27
// offsets, masks of 32 rows have 1.5 times what their rows have themselves, and 1.8 times with the
// offsets in their own order (4.0 with the rows in theirs).
int key_bits(int64_t kernel, int64_t rows) {
  int bits = static_cast<int>(kernel);
  for (int64_t last = (rows - 1) >> kStretchBits; last > 0; last >>= 1) ++bits;
  return std::max(bits, 1);
}

struct Map {
  Global<const int32_t> entries;  // [kernel, rows]
  int kernel;
  int32_t rows;
};

UOV_DEVICE bool has(const Map& map, int k, int32_t row) {
  return row >= 0 && map.entries[static_cast<int64_t>(k) * map.rows + row] >= 0;
}

// A thread's row of a block's chunk in a round; -1 past the end.
UOV_DEVICE int32_t row_of(const Map& map, int round) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kChunkRows + round * kThreads +
                      static_cast<int>(threadIdx.x);
  return row < map.rows ? static_cast<int32_t>(row) : -1;
}

// counts[k, chunk] = rows of the chunk that have offset k; one more, which is 0, at the end.
UOV_KERNEL(kThreads) count_pairs_kernel(Map map, Global<int32_t> counts, Global<int32_t> fault) {
  UOV_SHARED(int32_t, found, kWarps);
  const int thread = static_cast<int>(threadIdx.x), k = static_cast<int>(blockIdx.y);
  int sum = 0;
  for (int round = 0; round < kRounds; ++round) {
    const int32_t row = row_of(map, round);
    const int32_t entry = row < 0 ? -1 : map.entries[static_cast<int64_t>(k) * map.rows + row];
    if (entry < -1) report(fault, FaultKind::kMapEntry, entry, map.rows);
    sum += __popc(__ballot_sync(~0u, entry >= 0));
  }
  if (thread % kWarp == 0) found[thread / kWarp] = sum;
  __syncthreads();
  if (thread > 0) return;
  int32_t all = 0;
  for (int w = 0; w < kWarps; ++w) all += found[w];
  counts[static_cast<int64_t>(k) * gridDim.x + blockIdx.x] = all;
  if (k == 0 && blockIdx.x == 0) counts[static_cast<int64_t>(map.kernel) * gridDim.x] = 0;
}

// pair_counts[k], and places[k]: the bit of offset k in keys. `before` are the sums of the counts
// of all chunks before one.
UOV_KERNEL(kThreads)
place_offsets_kernel(Global<const int32_t> before, int chunks, int kernel,
                     Global<int32_t> pair_counts, Global<int32_t> places) {
  auto pairs_of = [&](int k) {
    const int64_t first = static_cast<int64_t>(k) * chunks;
    return before[first + chunks] - before[first];
  };
  for (int k = static_cast<int>(threadIdx.x); k < kernel; k += kThreads) {
    const int32_t own = pairs_of(k);
    int place = 0;
    for (int j = 0; j < kernel; ++j) {
      const int32_t other = pairs_of(j);
      place += other > own || (other == own && j < k);
    }
    pair_counts[k] = own;
    places[k] = place;
  }
}

// pair_rows[k], by the sums of counts. Each block writes the pairs of its chunk, and what of its
// chunk's room lies behind all pairs.
UOV_KERNEL(kThreads)
write_pairs_kernel(Map map, Global<const int32_t> before, Global<int32_t> pair_rows) {
  // Counts of the chunk's warps, in the order of their rows.
  UOV_SHARED(int32_t, found, kRounds* kWarps);
  const int thread = static_cast<int>(threadIdx.x), k = static_cast<int>(blockIdx.y);
  const int lane = thread % kWarp, warp = thread / kWarp;
  const int64_t list = static_cast<int64_t>(k) * map.rows;
  const int64_t first = static_cast<int64_t>(k) * gridDim.x;
  const int32_t pairs = before[first + gridDim.x] - before[first];
  uint32_t lanes[kRounds];
  UOV_UNROLL
  for (int round = 0; round < kRounds; ++round) {
    lanes[round] = __ballot_sync(~0u, has(map, k, row_of(map, round)));
    if (lane == 0) found[round * kWarps + warp] = __popc(lanes[round]);
  }
  __syncthreads();
  int32_t at = before[first + blockIdx.x] - before[first];
  int counted = 0;
  UOV_UNROLL
  for (int round = 0; round < kRounds; ++round) {
    const int32_t row = row_of(map, round);
    for (; counted < round * kWarps + warp; ++counted) at += found[counted];
    if ((lanes[round] >> lane & 1u) != 0) {
      pair_rows[list + at + __popc(lanes[round] & ((1u << lane) - 1))] = row;
    }
    if (row >= pairs) pair_rows[list + row] = -1;
  }
}

// keys[word, row] and the rows themselves.
UOV_KERNEL(kThreads)
make_keys_kernel(Map map, Global<const int32_t> places, int words, Global<uint64_t> keys,
                 Global<int32_t> rows) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= map.rows) return;
  rows[row] = static_cast<int32_t>(row);
  bool odd = false;  // whether the words above have an odd number of offsets
  for (int word = words - 1; word >= 0; --word) {
    uint64_t key = 0;
    for (int k = 0; k < map.kernel; ++k) {
      const int bit = places[k] - word * kKeyBits;
      if (bit >= 0 && bit < kKeyBits && has(map, k, static_cast<int32_t>(row))) {
        key |= uint64_t{1} << bit;
      }
    }
    // A mask's place: each bit tells whether it and those above are odd.
    UOV_UNROLL
    for (int step = 1; step < kKeyBits; step *= 2) key ^= key >> step;
    if (odd) key = ~key;
    odd = (key & 1) != 0;
    const uint64_t stretch = static_cast<uint64_t>(row >> kStretchBits);
    const int bit = map.kernel - word * kKeyBits;
    if (bit >= 0 && bit < kKeyBits) key |= stretch << bit;
    if (bit < 0 && bit > -kKeyBits) key |= stretch >> -bit;
    keys[word * static_cast<int64_t>(map.rows) + row] = key;
  }
}

// A word of the mask that a row's key says the place of.
UOV_DEVICE uint64_t mask_of_key(Global<const uint64_t> keys, int word, int kernel, int32_t rows,
                                int64_t row) {
  auto offsets = [&](int w) -> uint64_t {
    const int bits = kernel - w * kKeyBits;  // of offsets; what is above is the stretch
    if (bits <= 0) return 0;
    const uint64_t key = keys[w * static_cast<int64_t>(rows) + row];
    return bits >= kKeyBits ? key : key & ((uint64_t{1} << bits) - 1);
  };
  const uint64_t key = offsets(word);
  return key ^ (key >> 1 | offsets(word + 1) << (kKeyBits - 1));
}

// ordered[i] = keys[order[i]].
UOV_KERNEL(kThreads)
take_keys_kernel(Global<const uint64_t> keys, Global<const int32_t> order, int32_t rows,
                 Global<uint64_t> ordered) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < rows) ordered[i] = keys[order[i]];
}

// A warp joins the masks of 32 rows, and puts their bits back in the offsets' own order.
UOV_KERNEL(kThreads)
join_masks_kernel(Global<const uint64_t> keys, Global<const int32_t> order,
                  Global<const int32_t> places, int kernel, int32_t rows, int key_words,
                  Global<int32_t> masks) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t mask = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (mask * kWarpRows >= rows) return;
  const int64_t i = mask * kWarpRows + lane;
  const int64_t row = i < rows ? order[i] : -1;
  const int mask_words = (kernel + kBitsOfWord - 1) / kBitsOfWord;
  for (int m = 0; m < mask_words; ++m) {
    const int k = m * kBitsOfWord + lane;
    const int place = k < kernel ? places[k] : -1;
    bool there = false;
    for (int word = 0; word < key_words; ++word) {
      uint64_t key = row < 0 ? 0 : mask_of_key(keys, word, kernel, rows, row);
      UOV_UNROLL
      for (int step = kWarp / 2; step > 0; step /= 2) key |= __shfl_xor_sync(~0u, key, step);
      if (place >= 0 && place / kKeyBits == word) there = (key >> place % kKeyBits & 1u) != 0;
    }
    const uint32_t bits = __ballot_sync(~0u, there);
    if (lane == 0) masks[mask * mask_words + m] = static_cast<int32_t>(bits);
  }
}

// The workspace, cut into what it holds.
struct Parts {
  int64_t chunks, words;
  int32_t *counts, *before;  // [kernel, chunks] and one more
  int32_t* places;           // [kernel]
  uint64_t* keys;            // [words, rows]
  uint64_t *taken, *sorted;  // [rows]
  int32_t* rows;             // [rows]
  void *sum_workspace, *sort_workspace;
  int64_t bytes;
};
Parts parts_of(int64_t kernel, int64_t rows, void* memory) {
  Workspace workspace(memory);
  Parts p;
  p.chunks = ceil_div(rows, kChunkRows);
  p.words = std::max<int64_t>(1, ceil_div(key_bits(kernel, rows), kKeyBits));
  const int64_t counts = kernel * p.chunks + 1;
  p.counts = workspace.take<int32_t>(counts);
  p.before = workspace.take<int32_t>(counts);
  p.places = workspace.take<int32_t>(kernel);
  p.keys = workspace.take<uint64_t>(p.words * rows);
  p.taken = workspace.take<uint64_t>(p.words == 1 ? 0 : rows);
  p.sorted = workspace.take<uint64_t>(rows);
  p.rows = workspace.take<int32_t>(rows);
  p.sum_workspace = workspace.take<char>(exclusive_sum_workspace(counts));
  p.sort_workspace = workspace.take<char>(sort_pairs_workspace<uint64_t>(rows));
  p.bytes = workspace.bytes();
  return p;
}

dim3 blocks(int64_t items, int64_t of_block, int64_t y = 1) {
  return dim3(static_cast<unsigned>(ceil_div(items, of_block)), static_cast<unsigned>(y));
}

// By the lowest word of the keys first, so that the highest has the last say.
void sort_rows(Stream stream, const Parts& p, int bits, int64_t rows, int32_t* order) {
  int32_t *from = p.words % 2 == 0 ? order : p.rows, *to = p.words % 2 == 0 ? p.rows : order;
  for (int64_t word = 0; word < p.words; ++word) {
    uint64_t* keys = p.keys + word * rows;
    if (word > 0) {
      launch(stream, "schedule keys", take_keys_kernel, blocks(rows, kThreads), kThreads, 0,
             global(keys, rows), global(from, rows), rows, global(p.taken, rows));
      keys = p.taken;
    }
    const int64_t left = bits - word * kKeyBits;
    sort_pairs(stream, keys, p.sorted, from, to, rows,
               static_cast<int>(std::min<int64_t>(left, kKeyBits)), p.sort_workspace);
    std::swap(from, to);
  }
}

}  // namespace

int64_t schedule_workspace(int64_t kernel, int64_t rows) {
  return parts_of(kernel, rows, nullptr).bytes;
}

void schedule(Stream stream, const int32_t* map, int64_t kernel, int64_t rows, int32_t* order,
              int32_t* masks, int32_t* pair_rows, int32_t* pair_counts, void* workspace,
              int32_t* fault) {
  if (rows == 0) return fill_bytes(stream, pair_counts, 0, kernel * sizeof(int32_t));
  const Parts p = parts_of(kernel, rows, workspace);
  const int64_t pairs = kernel * rows, counts = kernel * p.chunks + 1;
  const int64_t mask_words = ceil_div(kernel, kBitsOfWord), key_words = p.words;
  const Map read{global(map, pairs), static_cast<int>(kernel), static_cast<int32_t>(rows)};
  const auto places = global(p.places, kernel);
  const auto before = global(p.before, counts);
  const dim3 chunks = blocks(rows, kChunkRows, kernel);
  if (kernel == 0) fill_bytes(stream, p.counts, 0, sizeof(int32_t));
  launch(stream, "schedule count", count_pairs_kernel, chunks, kThreads, 0, read,
         global(p.counts, counts), global(fault, kFaultNumbers));
  exclusive_sum(stream, p.counts, p.before, counts, p.sum_workspace);
  launch(stream, "schedule places", place_offsets_kernel, dim3(1), kThreads, 0, before, p.chunks,
         kernel, global(pair_counts, kernel), places);
  launch(stream, "schedule pairs", write_pairs_kernel, chunks, kThreads, 0, read, before,
         global(pair_rows, pairs));
  int32_t* const first = p.words % 2 == 0 ? order : p.rows;
  launch(stream, "schedule keys", make_keys_kernel, blocks(rows, kThreads), kThreads, 0, read,
         places, key_words, global(p.keys, key_words * rows), global(first, rows));
  sort_rows(stream, p, key_bits(kernel, rows), rows, order);
  launch(stream, "schedule masks", join_masks_kernel, blocks(ceil_div(rows, kWarpRows), kWarps),
         kThreads, 0, global(p.keys, key_words * rows), global(order, rows), places, kernel, rows,
         key_words, global(masks, ceil_div(rows, kWarpRows) * mask_words));
}

}  // namespace uov::cuda
