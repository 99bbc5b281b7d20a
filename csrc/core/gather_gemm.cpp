#include "core/gather_gemm.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/kernels.h"

namespace uov {
namespace {

// An output block is sized to stay in the second-level cache while all offsets pass over it: it has
// half of it, but not more or less than these.
constexpr int64_t kBlockBytesAtLeast = 256 * 1024;
constexpr int64_t kBlockBytesAtMost = 1024 * 1024;
// Every block reads all weights, so blocks are as large as the cache allows. Towards the end they
// become smaller: the rows that are left would make at least so many blocks for each thread, so
// that none has a large one to finish alone. But they are not so small that few of their rows use a
// slab of weights. All begin at a multiple of kMomentRows, so that moments do not depend on them.
constexpr int64_t kBlocksOfRest = 2;
constexpr int64_t kBlockRowsAtLeast = 2 * kMomentRows;
// Rows whose moments are joined before they are joined to those of the others.
constexpr int64_t kJoinedRows = 32 * kMomentRows;
// Of few rows there are few blocks, and each reads all weights. Wide products are cut into columns
// then: a task has some of them for all rows, and packs their weights itself.
constexpr int64_t kFewRows = 2048;
constexpr int64_t kColumnsOfTask = 64;
constexpr int64_t kColumnTasksAtLeast = 4;
// Most pairs of a weight gradient that are added at a time. Twice as many halve the passes over its
// matrix, but of rows that are read where they lie, fewer stay in the first-level cache.
constexpr int64_t kGradientRows = 2 * kPanelRows;
constexpr int64_t kGradientRowsInPlace = kPanelRows;
constexpr int64_t kCrowdedChannels = 128;
constexpr int64_t kFloatBytes = sizeof(float);
// Most pairs of a slot that one task of a weight gradient adds; a fixed number, so that sums do not
// depend on the threads.
constexpr int64_t kPairsOfPart = 4096;
// Slots of one such task: at most so many, their matrices stay in the second-level cache, and there
// are so many tasks for each thread at least.
constexpr int64_t kSlotsOfTask = 3;
constexpr int64_t kTaskFloats = 64 * 1024;
constexpr int64_t kTasksOfThread = 4;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t whole_moments(int64_t rows) { return ceil_div(rows, kMomentRows) * kMomentRows; }

int64_t block_bytes() {
#ifdef _SC_LEVEL2_CACHE_SIZE
  static const int64_t half = sysconf(_SC_LEVEL2_CACHE_SIZE) / 2;
#else
  constexpr int64_t half = 512 * 1024;
#endif
  return std::clamp(half, kBlockBytesAtLeast, kBlockBytesAtMost);
}

// How many rows of the result have a neighbour before none has one: the rest is padding. `map` is
// [K, rows].
int64_t used_rows(const GatherGemmShape& shape, const int32_t* map) {
  constexpr int64_t kStep = 64;
  int64_t used = 0;
  for (int64_t k = 0; k < shape.kernel; ++k) {
    const int32_t* entries = map + k * shape.rows_out;
    int64_t end = shape.rows_out;
    for (; end - kStep >= used; end -= kStep) {
      int32_t all_negative = -1;
      for (int64_t n = end - kStep; n < end; ++n) all_negative &= entries[n];
      if (all_negative >= 0) break;
    }
    while (end > used && entries[end - 1] < 0) --end;
    used = std::max(used, end);
  }
  return used;
}

// The parts of a product that are tasks of their own.
struct Blocks {
  std::vector<RowBlock> all;
  bool columns = false;  // cut into columns
  int64_t used = 0;      // rows before the padding, which has blocks of its own at the end
};

Blocks product_blocks(const GatherGemmShape& shape, const int32_t* map, int64_t threads) {
  Blocks blocks;
  const int64_t rows = shape.rows_out, channels = shape.channels_out;
  if (rows == 0 || channels == 0) return blocks;
  const int64_t used = blocks.used = std::min(rows, whole_moments(used_rows(shape, map)));
  blocks.columns = used <= kFewRows && channels >= kColumnTasksAtLeast * kColumnsOfTask;
  const int64_t cached =
      whole_moments(std::max(kBlockRowsAtLeast, block_bytes() / kFloatBytes / channels));
  if (blocks.columns && used > 0) {
    for (int64_t left = 0; left < channels; left += kColumnsOfTask) {
      blocks.all.push_back({0, used, left, std::min(left + kColumnsOfTask, channels)});
    }
  } else {
    for (int64_t begin = 0; begin < used; begin = blocks.all.back().end) {
      const int64_t share = whole_moments(ceil_div(used - begin, kBlocksOfRest * threads));
      const int64_t wanted = std::clamp(share, kBlockRowsAtLeast, cached);
      blocks.all.push_back({begin, std::min(begin + wanted, used), 0, channels});
    }
  }
  for (int64_t begin = used; begin < rows; begin += cached) {
    blocks.all.push_back({begin, std::min(begin + cached, rows), 0, channels});
  }
  return blocks;
}

struct AlignedFree {
  void operator()(float* p) const { ::operator delete[](p, std::align_val_t{64}); }
};
using AlignedFloats = std::unique_ptr<float[], AlignedFree>;

AlignedFloats aligned_floats(int64_t n) {
  return AlignedFloats(
      static_cast<float*>(::operator new[](n * sizeof(float), std::align_val_t{64})));
}

// Per-thread scratch, kept between calls, and zeroed once: tiles read channels beyond a panel's
// width, whose products go nowhere.
float* thread_panel(int which, int64_t wanted) {
  thread_local AlignedFloats storage[2];
  thread_local int64_t size[2] = {0, 0};
  if (size[which] < wanted) {
    storage[which] = aligned_floats(wanted);
    std::fill_n(storage[which].get(), wanted, 0.0f);
    size[which] = wanted;
  }
  return storage[which].get();
}

float* thread_accumulator(int64_t floats) {
  thread_local std::vector<float> storage;
  if (static_cast<int64_t>(storage.size()) < floats) storage.resize(floats);
  return storage.data();
}

// Weights of a convolution as slabs of `tile_columns` columns, one run per panel of input channels.
template <typename T>
class Weights {
 public:
  Weights(const GatherGemmShape& shape, WeightView view, const T* w)
      : shape_(shape),
        view_(view),
        w_(w),
        inner_(row_kernels<T>()),
        panel_channels_(int64_t{kPanelWords} * inner_.channels_per_word) {}

  // Most channels of a row that a panel holds.
  int64_t panel_channels() const { return panel_channels_; }

  // Words of the columns [left, right) of one slot.
  int64_t words(int64_t left, int64_t right) const {
    return inner_.words(shape_.channels_in) * padded(left, right);
  }

  // Where the panel from `channel` on begins in them.
  int64_t offset(int64_t channel, int64_t left, int64_t right) const {
    return channel / inner_.channels_per_word * padded(left, right);
  }

  // Packs these columns of slot k.
  void pack(int64_t k, int64_t left, int64_t right, float* out) const {
    const int64_t source = view_.mirrored ? shape_.kernel - 1 - k : k;
    const T* matrix = w_ + source * shape_.channels_in * shape_.channels_out;
    const int64_t stride = view_.transposed ? shape_.channels_in : shape_.channels_out;
    const auto pack = view_.transposed ? inner_.pack_transposed : inner_.pack;
    for (int64_t first = 0; first < shape_.channels_in; first += panel_channels_) {
      const int64_t depth = std::min(panel_channels_, shape_.channels_in - first);
      for (int64_t j = left; j < right; j += inner_.tile_columns) {
        const int64_t width = std::min<int64_t>(inner_.tile_columns, right - j);
        const T* corner = matrix + (view_.transposed ? first + j * stride : first * stride + j);
        pack(corner, stride, static_cast<int>(depth), static_cast<int>(width), out);
        out += int64_t{inner_.words(depth)} * inner_.tile_columns;
      }
    }
  }

 private:
  int64_t padded(int64_t left, int64_t right) const {
    return ceil_div(right - left, inner_.tile_columns) * inner_.tile_columns;
  }

  const GatherGemmShape shape_;
  const WeightView view_;
  const T* const w_;
  const RowKernels<T>& inner_;
  const int64_t panel_channels_;
};

[[noreturn]] void refuse_entry(int64_t k, int64_t n, int32_t row, int64_t rows) {
  throw std::out_of_range("neighbour map entry [" + std::to_string(k) + ", " + std::to_string(n) +
                          "] is " + std::to_string(row) + ", but the input has " +
                          std::to_string(rows) + " rows");
}

// Pairs of one slot: rows of the result, from some row on, and of the input, in ascending order.
struct Pairs {
  const int32_t *target, *source;
  int64_t count;
};

// The existing entries of map[begin, end): their output rows (relative to begin) and input rows.
int64_t existing_pairs(const GatherGemmShape& shape, const int32_t* map, int64_t k, int64_t begin,
                       int64_t end, int32_t* target, int32_t* source) {
  const int32_t* entries = map + k * shape.rows_out + begin;
  const int count = kernels().existing_pairs(entries, static_cast<int>(end - begin),
                                             static_cast<int>(shape.rows_in), target, source);
  if (count < 0) {
    for (int64_t n = 0; n < end - begin; ++n) {
      if (entries[n] >= shape.rows_in) refuse_entry(k, begin + n, entries[n], shape.rows_in);
    }
  }
  return count;
}

// All existing pairs of a map, by slot.
class PairLists {
 public:
  PairLists(const GatherGemmShape& shape, const int32_t* map)
      : shape_(shape),
        map_(map),
        room_(shape.rows_out + kSpare),
        // One piece of memory, of which the lists touch what they need.
        rows_(new int32_t[2 * shape.kernel * room_]),
        counts_(shape.kernel) {}

  // Must have run for every slot before the others are of use.
  void list(int64_t k) {
    int32_t* target = rows_.get() + 2 * k * room_;
    counts_[k] = existing_pairs(shape_, map_, k, 0, shape_.rows_out, target, target + room_);
  }

  Pairs all(int64_t k) const {
    const int32_t* target = rows_.get() + 2 * k * room_;
    return {target, target + room_, counts_[k]};
  }

  // Those of rows [begin, end), counted from row 0.
  Pairs between(int64_t k, int64_t begin, int64_t end) const {
    const Pairs pairs = all(k);
    const int32_t* last = pairs.target + pairs.count;
    const int32_t* from = std::lower_bound(pairs.target, last, static_cast<int32_t>(begin));
    const int32_t* to = std::lower_bound(from, last, static_cast<int32_t>(end));
    return {from, pairs.source + (from - pairs.target), to - from};
  }

 private:
  const GatherGemmShape shape_;
  const int32_t* const map_;
  const int64_t room_;
  const std::unique_ptr<int32_t[]> rows_;
  std::vector<int64_t> counts_;
};

// 0, 1, ...: where the rows of a panel of a product lie in it.
const int32_t* panel_index() {
  static const std::vector<int32_t> rows = [] {
    std::vector<int32_t> all(kPanelRows);
    std::iota(all.begin(), all.end(), 0);
    return all;
  }();
  return rows.data();
}

// `depth` numbers, from `first` on, of the rows of x at `source`, for RowKernels::product: where
// they lie if they are words already, else copied into a panel.
template <typename T>
Rows product_rows(const GatherGemmShape& shape, const T* x, int64_t first, int64_t depth,
                  const int32_t* source, int64_t rows) {
  const RowKernels<T>& inner = row_kernels<T>();
  const int64_t per_word = inner.channels_per_word;
  if (per_word * sizeof(T) == sizeof(float) && shape.channels_in % per_word == 0) {
    return {reinterpret_cast<const float*>(x + first), shape.channels_in / per_word, source};
  }
  constexpr int64_t kStride = kPanelWords + kPanelSpare;
  float* panel = thread_panel(0, kPanelRows * kStride);
  inner.copy_rows(x + first, shape.channels_in, source, static_cast<int>(rows),
                  static_cast<int>(depth), panel, kStride);
  return {panel, kStride, panel_index()};
}

// One block of a product, whose first number is at y. `packed` are the weights of all slots, or
// null if they are to be packed here; `lists`, where they are known, are the pairs of the map.
template <typename T>
void convolve_block(const GatherGemmShape& shape, const Weights<T>& weights, const float* packed,
                    const T* x, const int32_t* map, const PairLists* lists, const RowBlock& block,
                    float* y, int64_t y_stride) {
  const RowKernels<T>& inner = row_kernels<T>();
  const auto [begin, end, left, right] = block;
  const int64_t width = right - left;
  thread_local std::vector<int32_t> target, source;
  if (lists == nullptr) {
    target.resize(end - begin + kSpare);
    source.resize(end - begin + kSpare);
  }
  auto pairs_of = [&](int64_t k) {
    if (lists != nullptr) return lists->between(k, begin, end);
    const int64_t count = existing_pairs(shape, map, k, begin, end, target.data(), source.data());
    return Pairs{target.data(), source.data(), count};
  };
  // Where row 0 of the result would be: lists count from there. Only rows of the block are touched.
  float* const origin = lists != nullptr ? y - begin * y_stride : y;
  const int64_t slot_words = weights.words(left, right);
  float* own = packed == nullptr ? thread_panel(1, slot_words) : nullptr;
  // The middle slot starts the sums of the rows it reaches without a zero being written and read
  // again: in a submanifold map all of them.
  const int64_t centre = shape.kernel / 2;
  const int32_t* reached = map + centre * shape.rows_out;
  for (int64_t n = begin; n < end; ++n) {
    if (reached[n] < 0) std::fill_n(y + (n - begin) * y_stride, width, 0.0f);
  }
  for (int64_t i = 0; i < shape.kernel; ++i) {
    const int64_t k = i == 0 ? centre : i <= centre ? i - 1 : i;
    const Pairs pairs = pairs_of(k);
    if (pairs.count == 0) continue;
    if (own != nullptr) weights.pack(k, left, right, own);
    const float* slot = own != nullptr ? own : packed + k * slot_words;
    for (int64_t first = 0; first < shape.channels_in; first += weights.panel_channels()) {
      const int64_t depth = std::min(weights.panel_channels(), shape.channels_in - first);
      for (int64_t p = 0; p < pairs.count; p += kPanelRows) {
        const int64_t rows = std::min<int64_t>(kPanelRows, pairs.count - p);
        const Rows words = product_rows(shape, x, first, depth, pairs.source + p, rows);
        // Where they lie, the list goes on; a panel ends with them.
        const bool in_place = words.index == pairs.source + p;
        const int64_t following = in_place ? pairs.count - p - rows : 0;
        inner.product(words, static_cast<int>(rows), static_cast<int>(following),
                      inner.words(depth), slot + weights.offset(first, left, right),
                      static_cast<int>(width), origin, pairs.target + p, y_stride,
                      i > 0 || first > 0);
      }
    }
  }
}

// Where a block accumulates, and the step to its next row: in the result itself, or in scratch when
// that is narrower than float32.
struct Sums {
  float* at;
  int64_t stride;
};
inline Sums sums_of(float* y, int64_t stride, const RowBlock&) { return {y, stride}; }
inline Sums sums_of(bfloat16*, int64_t, const RowBlock& block) {
  const int64_t width = block.right - block.left;
  return {thread_accumulator((block.end - block.begin) * width), width};
}
inline void finish(const Sums&, const RowBlock&, float*, int64_t) {}
inline void finish(const Sums& sums, const RowBlock& block, bfloat16* y, int64_t stride) {
  row_kernels<bfloat16>().round_rows(sums.at, sums.stride, block.end - block.begin,
                                     block.right - block.left, y, stride);
}

// The rows of x at `index` in a panel of the thread, for RowKernels::outer.
template <typename T>
Rows factor_panel(const T* x, int64_t channels, const int32_t* index, int rows, int which) {
  int64_t stride = ceil_div(channels, kPanelSpare) * kPanelSpare + kPanelSpare;
  if (stride % kCrowdedChannels == 0) stride += kPanelSpare;
  float* panel = thread_panel(which, kGradientRows * stride);
  row_kernels<T>().copy_factor(x, channels, index, rows, static_cast<int>(channels), panel, stride);
  return {panel, stride, nullptr};
}

// Whether RowKernels::outer may read the rows where they lie. They must be words, and tiles must
// not reach past the last. Of rows that are a multiple of kCrowdedChannels apart, the columns of
// one tile fall onto few sets of the first-level cache, and would not stay there for the next.
template <typename T>
bool factors_in_place(const GatherGemmShape& shape) {
  return sizeof(T) == sizeof(float) && shape.channels_out % row_kernels<T>().tile_columns == 0 &&
         shape.channels_in % kCrowdedChannels != 0 && shape.channels_out % kCrowdedChannels != 0;
}

// dw += x[source]^T dy[target] over at most kGradientRows pairs, or = without `add`; `following`
// more come after them in the lists.
template <typename T>
void sum_outer_products(const GatherGemmShape& shape, const T* x, const T* dy, const Pairs& pairs,
                        int64_t following, float* dw, bool add) {
  const RowKernels<T>& inner = row_kernels<T>();
  const int channels_in = static_cast<int>(shape.channels_in);
  const int channels_out = static_cast<int>(shape.channels_out);
  const int rows = static_cast<int>(pairs.count);
  const bool in_place = factors_in_place<T>(shape);
  const Rows a = in_place ? Rows{reinterpret_cast<const float*>(x), channels_in, pairs.source}
                          : factor_panel(x, channels_in, pairs.source, rows, 0);
  const Rows b = in_place ? Rows{reinterpret_cast<const float*>(dy), channels_out, pairs.target}
                          : factor_panel(dy, channels_out, pairs.target, rows, 1);
  inner.outer(a, channels_in, b, channels_out, inner.words(rows),
              static_cast<int>(std::min(following, pairs.count)), dw, channels_out, add);
}

// The blocks of a product, each a task of its own.
template <typename T>
class ProductBlocks {
 public:
  ProductBlocks(const GatherGemmShape& shape, WeightView view, const T* x, const T* w,
                const int32_t* map, T* y, int64_t threads)
      : shape_(shape),
        x_(x),
        map_(map),
        y_(y),
        weights_(shape, view, w),
        blocks_(product_blocks(shape, map, threads)),
        slots_(blocks_.used == 0 || blocks_.columns ? 0 : shape.kernel),
        packed_(slots_ > 0 ? aligned_floats(slots_ * slot_words()) : nullptr) {}

  // Slots that must be packed before a block is computed.
  int64_t slots() const { return slots_; }
  void pack(int64_t k) {
    weights_.pack(k, 0, shape_.channels_out, packed_.get() + k * slot_words());
  }

  bool columns() const { return blocks_.columns; }
  int64_t count() const { return static_cast<int64_t>(blocks_.all.size()); }
  const RowBlock& block(int64_t i) const { return blocks_.all[i]; }
  T* result(int64_t i) const { return y_ + block(i).begin * shape_.channels_out + block(i).left; }

  // Computes block i; both others may be null.
  void compute(int64_t i, const RowAffine<T>* after, const PairLists* lists) const {
    const RowBlock& block = this->block(i);
    const int64_t stride = shape_.channels_out;
    const Sums sums = sums_of(result(i), stride, block);
    if (block.begin >= blocks_.used || shape_.channels_in == 0) {
      for (int64_t n = 0; n < block.end - block.begin; ++n) {
        std::fill_n(sums.at + n * sums.stride, block.right - block.left, 0.0f);
      }
    } else {
      convolve_block(shape_, weights_, packed_.get(), x_, map_, lists, block, sums.at, sums.stride);
    }
    if (after != nullptr) {
      finish_rows(*after, block, sums.at, sums.stride, stride, result(i));
    } else {
      finish(sums, block, result(i), stride);
    }
  }

 private:
  int64_t slot_words() const { return weights_.words(0, shape_.channels_out); }

  const GatherGemmShape shape_;
  const T* const x_;
  const int32_t* const map_;
  T* const y_;
  const Weights<T> weights_;
  const Blocks blocks_;
  const int64_t slots_;
  const AlignedFloats packed_;
};

// The gradient of the weights. The pairs of a slot are cut into parts, each with sums of its own,
// which are added in their order by whoever finishes the last of them. A task has parts of a few
// slots that go over the same rows; which slots those are does not matter to any sum.
template <typename T>
class WeightGradient {
 public:
  WeightGradient(const GatherGemmShape& shape, const T* x, const T* dy, const int32_t* map,
                 float* dw, int64_t threads)
      : shape_(shape),
        x_(x),
        dy_(dy),
        dw_(dw),
        matrix_(shape.channels_in * shape.channels_out),
        groups_(ceil_div(shape.kernel, slots_of_task(shape, threads))),
        pairs_(shape, map),
        slots_(shape.kernel) {}

  void list(int64_t k) { pairs_.list(k); }
  const PairLists& pairs() const { return pairs_; }

  // Cuts the tasks once all slots are listed; returns how many there are.
  int64_t cut() {
    int64_t scratch = 0;
    for (int64_t k = 0; k < shape_.kernel; ++k) {
      Slot& slot = slots_[k];
      slot.parts = std::max<int64_t>(1, ceil_div(pairs_.all(k).count, kPairsOfPart));
      slot.unfinished = slot.parts;
      slot.scratch = scratch;
      scratch += slot.parts - 1;
    }
    scratch_ = aligned_floats(scratch * matrix_);
    for (int64_t first = 0; first < groups_; ++first) {
      int64_t parts = 0;
      for (int64_t k = first; k < shape_.kernel; k += groups_) {
        parts = std::max(parts, slots_[k].parts);
      }
      for (int64_t part = 0; part < parts; ++part) tasks_.push_back({first, part});
    }
    return static_cast<int64_t>(tasks_.size());
  }

  void compute(int64_t i) {
    const Task& task = tasks_[i];
    sum_parts(task);
    for (int64_t k = task.first; k < shape_.kernel; k += groups_) {
      Slot& slot = slots_[k];
      if (task.part >= slot.parts || --slot.unfinished > 0) continue;
      float* own = sums_at(k, 0);
      for (int64_t part = 1; part < slot.parts; ++part) {
        const float* more = sums_at(k, part);
        for (int64_t j = 0; j < matrix_; ++j) own[j] += more[j];
      }
    }
  }

 private:
  struct Slot {
    int64_t parts = 0;
    int64_t scratch = 0;  // index of its first matrix there: part 0 is summed in the result
    std::atomic<int64_t> unfinished{0};
  };
  // A part of the slots first, first + groups_, ..., of those that have so many. Slots so far apart
  // in the kernel are neighbours along the last axis of the coordinates, by which rows are sorted
  // last: their rows are nearly the same.
  struct Task {
    int64_t first, part;
  };

  static int64_t slots_of_task(const GatherGemmShape& shape, int64_t threads) {
    const int64_t matrix = std::max<int64_t>(1, shape.channels_in * shape.channels_out);
    const int64_t enough = shape.kernel / (kTasksOfThread * threads);
    return std::clamp<int64_t>(std::min(kTaskFloats / matrix, enough), 1, kSlotsOfTask);
  }

  float* sums_at(int64_t k, int64_t part) const {
    return part == 0 ? dw_ + k * matrix_
                     : scratch_.get() + (slots_[k].scratch + part - 1) * matrix_;
  }

  // The slots take turns, a few pairs at a time: whichever has come least far. So they pass over
  // the rows together, and find most of them in the cache.
  void sum_parts(const Task& task) const {
    struct Turn {
      Pairs left;
      int64_t rows;  // of one turn
      float* sums;
      bool begun;
    };
    const int64_t most = factors_in_place<T>(shape_) ? kGradientRowsInPlace : kGradientRows;
    Turn turns[kSlotsOfTask];
    int64_t slots = 0;
    for (int64_t k = task.first; k < shape_.kernel; k += groups_) {
      const int64_t parts = slots_[k].parts;
      if (task.part >= parts) continue;
      const Pairs pairs = pairs_.all(k);
      const int64_t begin = pairs.count * task.part / parts;
      const int64_t count = pairs.count * (task.part + 1) / parts - begin;
      // Alike: a small rest would cost a pass over the matrix of its own.
      const int64_t rows = ceil_div(count, std::max<int64_t>(1, ceil_div(count, most)));
      const Pairs own{pairs.target + begin, pairs.source + begin, count};
      turns[slots++] = {own, rows, sums_at(k, task.part), false};
    }
    while (true) {
      Turn* next = nullptr;
      for (Turn* turn = turns; turn < turns + slots; ++turn) {
        if (turn->left.count > 0 && (next == nullptr || *turn->left.target < *next->left.target)) {
          next = turn;
        }
      }
      if (next == nullptr) break;
      const auto [target, source, left] = next->left;
      const int64_t rows = std::min(next->rows, left);
      sum_outer_products(shape_, x_, dy_, {target, source, rows}, left - rows, next->sums,
                         next->begun);
      next->left = {target + rows, source + rows, left - rows};
      next->begun = true;
    }
    for (const Turn* turn = turns; turn < turns + slots; ++turn) {
      if (!turn->begun) std::fill_n(turn->sums, matrix_, 0.0f);
    }
  }

  const GatherGemmShape shape_;
  const T *const x_, *const dy_;
  float* const dw_;
  const int64_t matrix_;
  const int64_t groups_;
  PairLists pairs_;
  std::vector<Slot> slots_;
  std::vector<Task> tasks_;
  AlignedFloats scratch_;
};

}  // namespace

template <typename T>
void gather_gemm(const GatherGemmShape& shape, WeightView view, const T* x, const T* w,
                 const int32_t* map, const RowAffine<T>* after, T* y,
                 const ParallelFor& parallel_for) {
  ProductBlocks<T> blocks(shape, view, x, w, map, y, parallel_for.threads());
  parallel_for(blocks.slots(), [&](int64_t k) { blocks.pack(k); });
  parallel_for(blocks.count(), [&](int64_t i) { blocks.compute(i, after, nullptr); });
}

template <typename T>
void gather_gemm_moments(const GatherGemmShape& shape, const T* x, const T* w, const int32_t* map,
                         int64_t valid, T* y, float* mean, float* m2,
                         const ParallelFor& parallel_for) {
  ProductBlocks<T> blocks(shape, {}, x, w, map, y, parallel_for.threads());
  const int64_t channels = shape.channels_out;
  std::vector<float> parts(ceil_div(valid, kMomentRows) * 2 * channels);
  auto part_of = [&](int64_t row) { return parts.data() + row / kMomentRows * 2 * channels; };
  auto rows_from = [&](int64_t row) { return std::min(kMomentRows, valid - row); };
  parallel_for(blocks.slots(), [&](int64_t k) { blocks.pack(k); });
  parallel_for(blocks.count(), [&](int64_t i) {
    blocks.compute(i, nullptr, nullptr);
    const auto [begin, end, left, right] = blocks.block(i);
    for (int64_t row = begin; row < std::min(end, valid); row += kMomentRows) {
      float* part = part_of(row) + left;
      few_moments(y + row * channels + left, channels, rows_from(row), right - left, part,
                  part + channels);
    }
  });
  // In two levels: a single chain of sums over very many rows would lose digits.
  std::fill_n(mean, channels, 0.0f);
  std::fill_n(m2, channels, 0.0f);
  std::vector<float> joined(2 * channels);
  for (int64_t first = 0; first < valid; first += kJoinedRows) {
    const int64_t last = std::min(first + kJoinedRows, valid);
    std::fill(joined.begin(), joined.end(), 0.0f);
    for (int64_t row = first; row < last; row += kMomentRows) {
      const float* part = part_of(row);
      join_moments(row - first, joined.data(), joined.data() + channels, rows_from(row), part,
                   part + channels, channels);
    }
    join_moments(first, mean, m2, last - first, joined.data(), joined.data() + channels, channels);
  }
}

template <typename T>
void gather_gemm_dw(const GatherGemmShape& shape, const T* x, const T* dy, const int32_t* map,
                    float* dw, const ParallelFor& parallel_for) {
  WeightGradient<T> gradient(shape, x, dy, map, dw, parallel_for.threads());
  parallel_for(shape.kernel, [&](int64_t k) { gradient.list(k); });
  parallel_for(gradient.cut(), [&](int64_t i) { gradient.compute(i); });
}

template <typename T>
void gather_gemm_gradients(const GatherGemmShape& shape, const T* x, const T* w, const T* dy,
                           const int32_t* map, const int32_t* back, T* dx, float* dw,
                           const ParallelFor& parallel_for) {
  const bool mirrored = back == nullptr;
  const GatherGemmShape product{shape.kernel, shape.rows_out, shape.rows_in, shape.channels_out,
                                shape.channels_in};
  ProductBlocks<T> blocks(product, {true, mirrored}, dy, w, mirrored ? map : back, dx,
                          parallel_for.threads());
  WeightGradient<T> gradient(shape, x, dy, map, dw, parallel_for.threads());
  const int64_t slots = blocks.slots();
  parallel_for(slots + shape.kernel, [&](int64_t i) {
    if (i < slots) {
      blocks.pack(i);
    } else {
      gradient.list(i - slots);
    }
  });
  // Whichever are larger come first, so that small ones end both at once: the tasks of the weights
  // before blocks of rows, of which the last are small, but few blocks of columns before them.
  const int64_t tasks = gradient.cut();
  const bool blocks_first = blocks.columns();
  const int64_t gradients_from = blocks_first ? blocks.count() : 0;
  const int64_t blocks_from = blocks_first ? 0 : tasks;
  parallel_for(tasks + blocks.count(), [&](int64_t i) {
    if (i >= gradients_from && i < gradients_from + tasks) {
      gradient.compute(i - gradients_from);
    } else {
      blocks.compute(i - blocks_from, nullptr, mirrored ? &gradient.pairs() : nullptr);
    }
  });
}

#define UOV_GATHER_GEMM_OF(T)                                                                      \
  template void gather_gemm<T>(const GatherGemmShape&, WeightView, const T*, const T*,             \
                               const int32_t*, const RowAffine<T>*, T*, const ParallelFor&);       \
  template void gather_gemm_moments<T>(const GatherGemmShape&, const T*, const T*, const int32_t*, \
                                       int64_t, T*, float*, float*, const ParallelFor&);           \
  template void gather_gemm_dw<T>(const GatherGemmShape&, const T*, const T*, const int32_t*,      \
                                  float*, const ParallelFor&);                                     \
  template void gather_gemm_gradients<T>(const GatherGemmShape&, const T*, const T*, const T*,     \
                                         const int32_t*, const int32_t*, T*, float*,               \
                                         const ParallelFor&);
UOV_GATHER_GEMM_OF(float)
UOV_GATHER_GEMM_OF(bfloat16)
#undef UOV_GATHER_GEMM_OF

}  // namespace uov
