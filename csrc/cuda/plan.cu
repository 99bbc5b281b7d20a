// Sorted keys, as on the CPU: one sort serves all levels, and all maps are found in one kernel.
//
// Why the maps need no hash table. Threads take voxels in sorted order, so that a warp's neighbours
// in one (x, y) column lie in sorted order too, within a range that two searches for the warp as a
// whole find: a thread then searches those few dozen keys, which its warp has just read, and walks
// along z. That is 9 short searches in cached memory for 27 neighbours. Look-ups in a table would
// be 26, each of them somewhere in tens of megabytes. A table is used for what it is better at:
// finding the voxels of coarser levels, of which many rows have the same.
//
// Why both halves of a map are searched, though one is the mirror of the other: each entry is then
// written once, by its row's thread, in order, the -1s included. Mirrored entries would have to be
// scattered over -1s that another pass has written, and writing is what costs most: a map has 108
// bytes a row, of keys that are read it has 8.
//
// Launches of a plan of 5 levels, first kernel 5 or not: a memset, collect_keys, the sort (10
// kernels and 10 memsets for more than some 2,000 rows of all levels, else 1 kernel), order_keys,
// fill_maps. Those of a single submanifold map are as many.
#include <cstdint>
#include <stdexcept>
#include <string>

#include "core/coordinates.h"
#include "core/plan_limits.h"
#include "cuda/device.h"
#include "cuda/fault.h"
#include "cuda/hash_table.h"
#include "cuda/plan.h"
#include "cuda/primitives.h"
#include "cuda/workspace.h"

namespace uov::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kWarpsOfLevels = kMostLevels * kWarps;
constexpr int64_t kMostRows = int64_t{1} << 28;
constexpr unsigned kWholeWarp = 0xffffffffu;

// Keys of all levels in one order: level after level, and in each by (batch, x, y, z). Those of
// level 0 are as they are. At coarser levels the lowest bit of every field is zero: without it
// there is room for the level above.
constexpr int kShortBits = kFieldBits - 1;
constexpr int kLevelShift = kBatchBits + 3 * kShortBits;
constexpr uint64_t kCoarse = uint64_t{1} << 63;
constexpr int kSortedBits = 64;
static_assert(kLevelShift + 2 <= 63 && kMostLevels - 2 < 4);

UOV_DEVICE uint64_t field(uint64_t key, int bits, int number) {
  return (key >> (number * bits)) & ((uint64_t{1} << bits) - 1);
}

// The key at `level` of the voxel that holds level 0's `key`.
UOV_DEVICE uint64_t key_among_levels(uint64_t key, int level) {
  uint64_t result = kCoarse | (static_cast<uint64_t>(level - 1) << kLevelShift) |
                    ((key >> (3 * kFieldBits)) << (3 * kShortBits));
  for (int number = 0; number < 3; ++number) {
    const uint64_t coordinate = field(key, kFieldBits, number) >> level << level;
    result |= coordinate >> 1 << (number * kShortBits);
  }
  return result;
}

// A voxel's key among those of its own level.
UOV_DEVICE uint64_t key_within_level(uint64_t key) {
  if ((key & kCoarse) == 0) return key;
  uint64_t result = ((key >> (3 * kShortBits)) & ((uint64_t{1} << kBatchBits) - 1))
                    << (3 * kFieldBits);
  for (int number = 0; number < 3; ++number) {
    result |= field(key, kShortBits, number) << 1 << (number * kFieldBits);
  }
  return result;
}

// What the kernels find out. All bytes are 0xff to begin with.
enum Finding {
  kBadRow,     // the lowest row of an illegal coordinate
  kDuplicate,  // the lowest place, in sorted order, of the key before it
  kVoxels,     // + level, from 1 on: how many there are, less one
  kFindings = kVoxels + kMostLevels,
};
constexpr uint32_t kNone = ~uint32_t{0};

struct Rows {
  Global<const int32_t> coords;  // [capacity, 4]
  Global<const int32_t> count;   // []
  int32_t capacity;
  int32_t tensor_stride;
};

UOV_DEVICE bool count_is_legal(const Rows& rows) {
  return rows.count[0] >= 0 && rows.count[0] <= rows.capacity;
}

// The shape of a plan, and where the keys of its levels go before they are sorted.
struct Levels {
  int number;
  int32_t capacity[kMostLevels];
  int32_t start[kMostLevels];
};

struct Keys {
  Global<uint64_t> keys;  // kNoKey to begin with
  Global<int32_t> rows;   // of the keys of level 0
};

// Keys of the rows, and those of their voxels at all coarser levels, each once. In which order the
// latter come is left to chance; they are sorted.
UOV_KERNEL(kThreads)
collect_keys(Rows rows, Levels levels, Keys to, HashTable table, Global<uint32_t> findings) {
  UOV_SHARED(int32_t, first_of_warp, kWarpsOfLevels);  // in its block, of every level
  UOV_SHARED(int32_t, first_of_block, kMostLevels);
  const int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  bool is_new = false;  // at level 0 each is
  uint64_t key = 0;
  if (count_is_legal(rows) && row < rows.count[0]) {
    const auto voxel = load<4>(rows.coords, 4 * row);
    const auto& c = voxel.value;
    is_new = coordinate_is_legal(c[0], c[1], c[2], c[3], rows.tensor_stride) &&
             ((c[1] | c[2] | c[3]) & (rows.tensor_stride - 1)) == 0;
    if (is_new) {
      key = static_cast<uint64_t>(coordinate_key(c[0], c[1], c[2], c[3]));
      to.keys[row] = key;
    } else {
      atomic_min(findings, kBadRow, static_cast<uint32_t>(row));
    }
  }
  if (row < rows.capacity) to.rows[row] = static_cast<int32_t>(row);
  // Who is the first in a voxel also enters the voxel that holds it; nobody else needs to.
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t lanes_below = (uint32_t{1} << lane) - 1;
  int depth = 0;  // coarser levels at which this thread is the first
  int place[kMostLevels] = {};
  for (int level = 1; level < kMostLevels; ++level) {
    if (level >= levels.number) break;
    is_new = is_new && insert(table, key_among_levels(key, level)).is_new;
    const uint32_t votes = __ballot_sync(kWholeWarp, is_new);
    place[level] = __popc(votes & lanes_below);
    depth += is_new ? 1 : 0;
    if (lane == 0) first_of_warp[level * kWarps + warp] = __popc(votes);
  }
  // One addition for a block and a level: they all go to the same few addresses.
  __syncthreads();
  const int own = static_cast<int>(threadIdx.x) + 1;
  if (own < levels.number) {
    int32_t sum = 0;
    for (int w = 0; w < kWarps; ++w) {
      const int32_t voxels = first_of_warp[own * kWarps + w];
      first_of_warp[own * kWarps + w] = sum;
      sum += voxels;
    }
    first_of_block[own] =
        static_cast<int32_t>(atomic_add(findings, kVoxels + own, static_cast<uint32_t>(sum)) + 1);
  }
  __syncthreads();
  for (int level = 1; level < kMostLevels; ++level) {
    if (level > depth) break;
    const int32_t i = first_of_block[level] + first_of_warp[level * kWarps + warp] + place[level];
    if (i < levels.capacity[level]) to.keys[levels.start[level] + i] = key_among_levels(key, level);
  }
}

// Sorted keys as they are within their own level.
UOV_KERNEL(kThreads)
order_keys(Global<const uint64_t> sorted, int64_t n, Global<uint64_t> keys,
           Global<uint32_t> findings) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;
  const uint64_t key = sorted[i];
  keys[i] = key == kNoKey ? key : key_within_level(key);
  if (key != kNoKey && i > 0 && sorted[i - 1] == key) {
    atomic_min(findings, kDuplicate, static_cast<uint32_t>(i));
  }
}

// What is known once all keys are sorted: level after level, and nothing between them.
struct Sorted {
  Global<const uint64_t> keys;
  Global<const int32_t> rows;  // of the keys of level 0; at coarser levels rows are in sorted order
  Global<const uint32_t> findings;
};

UOV_DEVICE int32_t voxels_of(const Rows& rows, const Sorted& sorted, int level) {
  return level == 0 ? rows.count[0] : static_cast<int32_t>(sorted.findings[kVoxels + level] + 1);
}

UOV_DEVICE bool are_bad(const Rows& rows, const Sorted& sorted) {
  return !count_is_legal(rows) || sorted.findings[kBadRow] != kNone ||
         sorted.findings[kDuplicate] != kNone;
}

UOV_DEVICE bool are_refused(const Rows& rows, const Levels& levels, const Sorted& sorted) {
  bool refused = are_bad(rows, sorted);
  for (int level = 1; level < kMostLevels; ++level) {
    if (level >= levels.number) break;
    refused = refused || voxels_of(rows, sorted, level) > levels.capacity[level];
  }
  return refused;
}

// Says of bad coordinates what core/plan.cpp would: the first row that is out of range or no
// multiple of the stride, else the first duplicate in the order of the keys.
UOV_DEVICE void report_bad(const Rows& rows, const Sorted& sorted, Global<int32_t> fault) {
  if (!count_is_legal(rows)) {
    report(fault, FaultKind::kCount, rows.count[0], rows.capacity);
  } else if (const uint32_t row = sorted.findings[kBadRow]; row != kNone) {
    const auto voxel = load<4>(rows.coords, 4 * int64_t{row});
    const auto& c = voxel.value;
    const bool inside = coordinate_is_legal(c[0], c[1], c[2], c[3], rows.tensor_stride);
    report(fault, inside ? FaultKind::kCoordinateStride : FaultKind::kCoordinateRange,
           static_cast<int32_t>(row), inside ? rows.tensor_stride : 0);
  } else {
    const uint32_t place = sorted.findings[kDuplicate];
    report(fault, FaultKind::kDuplicateCoordinate, sorted.rows[place - 1], sorted.rows[place]);
  }
}

enum class MapKind { kParents, kKernel1, kKernel2, kKernel3, kKernel5 };

// A map to be filled, and the blocks that fill it: one thread a row.
struct Job {
  MapKind kind;
  int of, in;              // levels: of each voxel of one, neighbours in the other
  int32_t rows;            // capacity of the level `of`
  int32_t step;            // between offsets of the kernel
  unsigned end;            // of the blocks of this job
  bool writes_coords;      // of the level `of`
  Global<int32_t> map;     // [kernel^3, rows], of parents [8, rows]
  Global<int32_t> coords;  // [rows, 4]
};
// A map of each level, the 5x5x5 one, and two of every step.
constexpr int kMostJobs = kMostLevels + 1 + 2 * (kMostLevels - 1);
struct Jobs {
  Job job[kMostJobs];
};

struct Segment {
  int32_t begin, end;
};

// Where the keys of a level lie.
UOV_DEVICE Segment segment_of(const Rows& rows, const Sorted& sorted, int level) {
  Segment segment{0, rows.count[0]};
  for (int l = 1; l <= level; ++l) {
    segment = {segment.end, segment.end + voxels_of(rows, sorted, l)};
  }
  return segment;
}

// The first place in [low, high) with a key that is not below `key`; `high` if there is none.
UOV_DEVICE int32_t lower_bound(Global<const uint64_t> keys, int32_t low, int32_t high,
                               uint64_t key) {
  // As many steps for every thread with as wide a range: a warp does not diverge.
  int32_t width = high - low;
  while (width > 1) {
    const int32_t half = width / 2;
    low += keys[low + half - 1] < key ? half : 0;
    width -= half;
  }
  return width == 1 && keys[low] < key ? low + 1 : low;
}

// Which voxel of the level `of` a thread looks at, and what becomes of it. Threads past the last
// voxel fill the rows past the valid ones; those past the last row only come along.
struct Query {
  int32_t place;
  bool is_voxel, is_row;
  int32_t row;
  uint64_t key;  // where there is none, that of the last voxel
};

UOV_DEVICE Query query_of(const Sorted& sorted, const Job& job, Segment of, int32_t place) {
  Query query{place, place < of.end - of.begin, place < job.rows, place, kNoKey};
  if (of.end == of.begin) return query;
  const int32_t last = of.end - 1;
  query.key = sorted.keys[query.is_voxel ? of.begin + place : last];
  if (query.is_voxel && job.of == 0) query.row = sorted.rows[place];
  return query;
}

// Entries of all offsets, (0, 1, ... kKernel - 1 or -kKernel / 2 ... kKernel / 2) * step along each
// axis, x the fastest.
template <int kKernel>
UOV_DEVICE void fill_neighbours(const Sorted& sorted, const Job& job, const Query& query,
                                Segment in) {
  constexpr int kColumns = kKernel * kKernel;
  constexpr int kFirst = kKernel % 2 == 0 ? 0 : -(kKernel / 2);
  constexpr int kTogether = 16;  // columns, with two ends of a range each
  const int lane = threadIdx.x % 32;
  const int64_t step = job.step;
  auto column_delta = [step](int column) {  // to the lowest offset in it
    const int x = kFirst + column % kKernel, y = kFirst + column / kKernel;
    return static_cast<uint64_t>(key_delta(x * step, y * step, kFirst * step));
  };
  // All threads of a warp come here, whatever they look at: they search together.
  const uint64_t first_key = __shfl_sync(kWholeWarp, query.key, 0);
  const uint64_t last_key = __shfl_sync(kWholeWarp, query.key, 31);
  for (int group = 0; group < kColumns; group += kTogether) {
    const uint64_t outer_key = (lane < kTogether ? first_key : last_key);
    const int32_t outer = lower_bound(sorted.keys, in.begin, in.end,
                                      outer_key + column_delta(group + lane % kTogether));
    for (int i = 0; i < kTogether && group + i < kColumns; ++i) {
      const int32_t low = __shfl_sync(kWholeWarp, outer, i);
      const int32_t high = __shfl_sync(kWholeWarp, outer, kTogether + i);
      uint64_t wanted = query.key + column_delta(group + i);
      int32_t at = lower_bound(sorted.keys, low, high, wanted);
      uint64_t key = at < in.end ? sorted.keys[at] : kNoKey;
      for (int z = 0; z < kKernel; ++z, wanted += step) {
        while (key < wanted) {
          ++at;
          key = at < in.end ? sorted.keys[at] : kNoKey;
        }
        int32_t neighbour = -1;
        if (query.is_voxel && key == wanted) {
          neighbour = job.in == 0 ? sorted.rows[at] : at - in.begin;
        }
        const int64_t k = group + i + kColumns * z;
        if (query.is_row) job.map[k * job.rows + query.row] = neighbour;
      }
    }
  }
}

// The row of the voxel that holds this one, at the slot that this one has in it.
UOV_DEVICE void fill_parents(const Sorted& sorted, const Job& job, const Query& query, Segment in) {
  if (!query.is_row) return;
  int slot = -1;
  int32_t parent = -1;
  if (query.is_voxel) {
    const auto bits = static_cast<uint64_t>(key_delta(job.step, job.step, job.step));
    auto bit = [&](int64_t x, int64_t y, int64_t z) {
      return (query.key & static_cast<uint64_t>(key_delta(x, y, z))) != 0 ? 1 : 0;
    };
    slot = bit(job.step, 0, 0) + 2 * bit(0, job.step, 0) + 4 * bit(0, 0, job.step);
    parent = lower_bound(sorted.keys, in.begin, in.end, query.key & ~bits) - in.begin;
  }
  for (int k = 0; k < 8; ++k) {
    job.map[int64_t{k} * job.rows + query.row] = k == slot ? parent : -1;
  }
}

UOV_DEVICE void write_coords(const Job& job, const Query& query) {
  if (!query.is_row) return;
  Vector<int32_t, 4> c = {{-1, -1, -1, -1}};
  if (query.is_voxel) unpack_key(static_cast<int64_t>(query.key), c.value);
  store<4>(job.coords, 4 * int64_t{query.row}, c);
}

UOV_KERNEL(kThreads)
fill_maps(Rows rows, Levels levels, Sorted sorted, Jobs jobs, Global<int32_t> counts,
          bool writes_counts, Global<int32_t> fault) {
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    const bool bad = are_bad(rows, sorted);
    if (bad) report_bad(rows, sorted, fault);
    for (int level = 0; writes_counts && level < levels.number; ++level) {
      counts[level] = bad ? INT32_MAX : voxels_of(rows, sorted, level);
    }
  }
  int number = 0;
  unsigned begin = 0;
  while (blockIdx.x >= jobs.job[number].end) begin = jobs.job[number++].end;
  const Job& job = jobs.job[number];
  const auto place = static_cast<int32_t>((blockIdx.x - begin) * kThreads + threadIdx.x);
  Segment of{0, 0}, in{0, 0};
  if (!are_refused(rows, levels, sorted)) {
    of = segment_of(rows, sorted, job.of);
    in = segment_of(rows, sorted, job.in);
  }
  const Query query = query_of(sorted, job, of, place);
  switch (job.kind) {
    case MapKind::kParents:
      fill_parents(sorted, job, query, in);
      break;
    case MapKind::kKernel1:
      fill_neighbours<1>(sorted, job, query, in);
      break;
    case MapKind::kKernel2:
      fill_neighbours<2>(sorted, job, query, in);
      break;
    case MapKind::kKernel3:
      fill_neighbours<3>(sorted, job, query, in);
      break;
    case MapKind::kKernel5:
      fill_neighbours<5>(sorted, job, query, in);
      break;
  }
  if (job.writes_coords) write_coords(job, query);
}

unsigned blocks_for(int64_t items) {
  return static_cast<unsigned>((items + kThreads - 1) / kThreads);
}

Levels levels_of(const std::vector<int64_t>& capacities) {
  check_levels(static_cast<int64_t>(capacities.size()));
  Levels levels{};
  levels.number = static_cast<int>(capacities.size());
  int64_t total = 0;
  for (int level = 0; level < levels.number; ++level) {
    // No key of the largest map's index, nor of the table's, may leave its type.
    if (capacities[level] < 0 || capacities[level] > kMostRows) {
      throw std::invalid_argument("level " + std::to_string(level) + " of a plan has " +
                                  std::to_string(capacities[level]) + " rows, expected at most " +
                                  std::to_string(kMostRows));
    }
    levels.start[level] = static_cast<int32_t>(total);
    levels.capacity[level] = static_cast<int32_t>(capacities[level]);
    total += capacities[level];
  }
  return levels;
}

struct Scratch {
  int64_t keys_of_levels;  // room for them
  int table_bits;
  uint64_t *keys, *table;
  uint32_t* findings;
  int64_t bytes_of_ones;  // from the keys on
  int32_t* rows;
  uint64_t* sorted_keys;
  int32_t* sorted_rows;
  uint8_t* sort;
  int64_t bytes;
};

Scratch cut(void* memory, const Levels& levels) {
  Workspace workspace(memory);
  Scratch s{};
  const int last = levels.number - 1;
  s.keys_of_levels = int64_t{levels.start[last]} + levels.capacity[last];
  // True counts are asked for where there are more voxels than rows too: each level may have as
  // many as level 0.
  s.table_bits = hash_table_bits(int64_t{levels.capacity[0]} * last);
  s.keys = workspace.take<uint64_t>(s.keys_of_levels);
  s.table = workspace.take<uint64_t>(hash_table_slots(s.table_bits));
  s.findings = workspace.take<uint32_t>(kFindings);
  s.bytes_of_ones = workspace.bytes();
  s.rows = workspace.take<int32_t>(s.keys_of_levels);
  s.sorted_keys = workspace.take<uint64_t>(s.keys_of_levels);
  s.sorted_rows = workspace.take<int32_t>(s.keys_of_levels);
  s.sort = workspace.take<uint8_t>(sort_pairs_workspace<uint64_t>(s.keys_of_levels));
  s.bytes = workspace.bytes();
  return s;
}

// The maps of one call.
class JobList {
 public:
  // Of every voxel of level `of`, its neighbours in level `in`.
  Job& add(MapKind kind, int of, int in, int32_t rows, int32_t step, int32_t* map, int64_t slices) {
    Job& job = jobs_.job[number_];
    blocks_ += blocks_for(rows);
    job = {kind, of, in, rows, step, blocks_, false, global(map, slices * rows), {}};
    ++number_;
    return job;
  }
  const Jobs& jobs() const { return jobs_; }
  unsigned blocks() const { return blocks_; }

 private:
  Jobs jobs_{};
  int number_ = 0;
  unsigned blocks_ = 0;
};

void fill(Stream stream, const Rows& rows, const Levels& levels, const JobList& list,
          int32_t* counts, void* memory, int32_t* fault) {
  const Scratch s = cut(memory, levels);
  const int64_t n = s.keys_of_levels;
  const int64_t slots = hash_table_slots(s.table_bits);
  const HashTable table{global(s.table, slots), s.table_bits};
  fill_bytes(stream, s.keys, 0xff, s.bytes_of_ones);
  launch(stream, "plan: collect_keys", collect_keys, dim3(blocks_for(rows.capacity)), kThreads, 0,
         rows, levels, Keys{global(s.keys, n), global(s.rows, n)}, table,
         global(s.findings, kFindings));
  sort_pairs(stream, s.keys, s.sorted_keys, s.rows, s.sorted_rows, n, kSortedBits, s.sort);
  launch(stream, "plan: order_keys", order_keys, dim3(blocks_for(n)), kThreads, 0,
         global<const uint64_t>(s.sorted_keys, n), n, global(s.keys, n),
         global(s.findings, kFindings));
  const Sorted sorted{global<const uint64_t>(s.keys, n), global<const int32_t>(s.sorted_rows, n),
                      global<const uint32_t>(s.findings, kFindings)};
  launch(stream, "plan: fill_maps", fill_maps, dim3(list.blocks()), kThreads, 0, rows, levels,
         sorted, list.jobs(), global(counts, levels.number), counts != nullptr,
         global(fault, kFaultNumbers));
}

Rows rows_of(const int32_t* coords, const int32_t* count, int32_t capacity, int32_t stride) {
  return {global(coords, 4 * int64_t{capacity}), global(count, 1), capacity, stride};
}

}  // namespace

int64_t plan_workspace(const std::vector<int64_t>& capacities) {
  return cut(nullptr, levels_of(capacities)).bytes;
}

void build_plan(Stream stream, const int32_t* coords, const int32_t* count,
                const PlanArrays& arrays, int32_t* counts, void* workspace, int32_t* fault) {
  const Levels levels = levels_of(arrays.capacities);
  const int32_t* capacity = levels.capacity;
  JobList list;
  if (arrays.first != nullptr) {
    list.add(MapKind::kKernel5, 0, 0, capacity[0], 1, arrays.first, 125);
  }
  for (int level = 0; level < levels.number; ++level) {
    list.add(MapKind::kKernel3, level, level, capacity[level], 1 << level, arrays.same[level], 27);
  }
  for (int level = 0; level + 1 < levels.number; ++level) {
    const int32_t step = 1 << level, coarse = capacity[level + 1];
    // The voxels within a coarser one are its neighbours at offsets of 0 and 1.
    Job& down = list.add(MapKind::kKernel2, level + 1, level, coarse, step, arrays.down[level], 8);
    down.writes_coords = true;
    down.coords = global(arrays.coords[level], 4 * int64_t{coarse});
    list.add(MapKind::kParents, level, level + 1, capacity[level], step,
             arrays.down_transpose[level], 8);
  }
  fill(stream, rows_of(coords, count, capacity[0], 1), levels, list, counts, workspace, fault);
}

int64_t submanifold_map_workspace(int64_t n) { return cut(nullptr, levels_of({n})).bytes; }

void submanifold_map(Stream stream, const int32_t* coords, const int32_t* count, int64_t n,
                     int kernel, int32_t tensor_stride, int32_t dilation, int32_t* map,
                     void* workspace, int32_t* fault) {
  check_tensor_stride(tensor_stride);
  check_submanifold_kernel(kernel, dilation);
  const Levels levels = levels_of({n});
  const auto kind = kernel == 1   ? MapKind::kKernel1
                    : kernel == 3 ? MapKind::kKernel3
                                  : MapKind::kKernel5;
  JobList list;
  list.add(kind, 0, 0, levels.capacity[0], tensor_stride * dilation, map,
           int64_t{kernel} * kernel * kernel);
  fill(stream, rows_of(coords, count, levels.capacity[0], tensor_stride), levels, list, nullptr,
       workspace, fault);
}

}  // namespace uov::cuda
