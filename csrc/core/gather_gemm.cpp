#include "core/gather_gemm.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/kernels.h"

namespace uov {
namespace {

// An output block is sized to stay in the second-level cache while all offsets pass over it.
// Towards the end blocks become smaller, a fixed share of the rows that are left, so that no thread
// has a large one to finish alone; but not so small that their panels are nearly empty.
constexpr int64_t kBlockBytes = 512 * 1024;
constexpr int64_t kShareOfRest = 16;
constexpr int64_t kBlockRowsAtLeast = 128;
// Rows of the panels of a weight gradient: twice as many halve the passes over its matrix.
constexpr int64_t kGradientRows = 2 * kPanelRows;
// Most pairs of one weight-gradient task; a fixed number, so that sums do not depend on the
// threads.
constexpr int64_t kPairsPerTask = 4096;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Where the blocks of rows begin, and the end of the last.
std::vector<int64_t> block_bounds(int64_t rows, int64_t channels) {
  const int64_t cached = std::max<int64_t>(
      kBlockRowsAtLeast, kBlockBytes / static_cast<int64_t>(sizeof(float)) / channels);
  std::vector<int64_t> bounds{0};
  while (bounds.back() < rows) {
    const int64_t left = rows - bounds.back();
    const int64_t share = std::max(kBlockRowsAtLeast, ceil_div(left, kShareOfRest));
    bounds.push_back(bounds.back() + std::min({left, cached, share}));
  }
  return bounds;
}

struct AlignedFree {
  void operator()(float* p) const { ::operator delete[](p, std::align_val_t{64}); }
};
using AlignedFloats = std::unique_ptr<float[], AlignedFree>;

AlignedFloats aligned_floats(int64_t n) {
  return AlignedFloats(
      static_cast<float*>(::operator new[](n * sizeof(float), std::align_val_t{64})));
}

// Per-thread scratch, kept between calls; zeroed once, so that channels beyond a panel's width
// never hold numbers that are slow to multiply.
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

// Weights of every slot as slabs of `tile_columns` columns, one run per panel of input channels.
template <typename T>
class PackedWeights {
 public:
  PackedWeights(const GatherGemmShape& shape, WeightView view, const T* w)
      : shape_(shape),
        view_(view),
        w_(w),
        tile_columns_(kernels().tile_columns),
        padded_columns_(ceil_div(shape.channels_out, tile_columns_) * tile_columns_),
        packed_(aligned_floats(shape.kernel * shape.channels_in * padded_columns_)) {}

  // Must have run for every slot before `slot` is of use.
  void pack(int64_t k) {
    const int64_t source = view_.mirrored ? shape_.kernel - 1 - k : k;
    const int64_t matrix = shape_.channels_in * shape_.channels_out;
    const float* floats = as_floats(w_ + source * matrix, matrix);
    const int64_t stride = view_.transposed ? shape_.channels_in : shape_.channels_out;
    const auto pack = view_.transposed ? kernels().pack_transposed : kernels().pack;
    float* out = packed_.get() + k * shape_.channels_in * padded_columns_;
    for (int64_t first = 0; first < shape_.channels_in; first += kPanelChannels) {
      const int64_t depth = std::min<int64_t>(kPanelChannels, shape_.channels_in - first);
      for (int64_t j = 0; j < padded_columns_; j += tile_columns_, out += depth * tile_columns_) {
        const int64_t width = std::min<int64_t>(tile_columns_, shape_.channels_out - j);
        const float* corner = floats + (view_.transposed ? first + j * stride : first * stride + j);
        pack(corner, stride, static_cast<int>(depth), static_cast<int>(width), out);
      }
    }
  }

  const float* slot(int64_t k, int64_t first_channel) const {
    return packed_.get() + (k * shape_.channels_in + first_channel) * padded_columns_;
  }

 private:
  static const float* as_floats(const float* w, int64_t) { return w; }
  static const float* as_floats(const bfloat16* w, int64_t n) {
    float* wide = thread_accumulator(n);
    copy_to_float(w, n, wide);
    return wide;
  }

  const GatherGemmShape shape_;
  const WeightView view_;
  const T* const w_;
  const int64_t tile_columns_, padded_columns_;
  const AlignedFloats packed_;
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

// The rows [begin, end) of a product, which are at y. `lists`, where they are known, are the pairs
// of the map.
template <typename T>
void convolve_block(const GatherGemmShape& shape, const PackedWeights<T>& weights, const T* x,
                    const int32_t* map, const PairLists* lists, int64_t begin, int64_t end,
                    float* y) {
  const Kernels& inner = kernels();
  if (shape.kernel == 0 || shape.channels_in == 0) {
    std::fill_n(y, (end - begin) * shape.channels_out, 0.0f);
    return;
  }
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
  float* const origin = lists != nullptr ? y - begin * shape.channels_out : y;
  float* panel = thread_panel(0, kPanelRows * kPanelStride);
  // The middle slot starts the sums of the rows it reaches without a zero being written and read
  // again: in a submanifold map all of them.
  const int64_t centre = shape.kernel / 2;
  const int32_t* reached = map + centre * shape.rows_out;
  for (int64_t n = begin; n < end; ++n) {
    if (reached[n] < 0) std::fill_n(y + (n - begin) * shape.channels_out, shape.channels_out, 0.0f);
  }
  for (int64_t i = 0; i < shape.kernel; ++i) {
    const int64_t k = i == 0 ? centre : i <= centre ? i - 1 : i;
    const Pairs pairs = pairs_of(k);
    for (int64_t first = 0; first < shape.channels_in; first += kPanelChannels) {
      const int64_t depth = std::min<int64_t>(kPanelChannels, shape.channels_in - first);
      for (int64_t p = 0; p < pairs.count; p += kPanelRows) {
        const int64_t rows = std::min<int64_t>(kPanelRows, pairs.count - p);
        copy_rows(inner, x + first, shape.channels_in, pairs.source + p, static_cast<int>(rows),
                  static_cast<int>(depth), panel);
        inner.product(panel, static_cast<int>(rows), static_cast<int>(depth),
                      weights.slot(k, first), static_cast<int>(shape.channels_out), origin,
                      pairs.target + p, shape.channels_out, i > 0 || first > 0);
      }
    }
  }
}

// The float32 rows a block accumulates in: the result itself, or scratch when that is narrower.
inline float* accumulator(float* y, int64_t) { return y; }
inline float* accumulator(bfloat16*, int64_t floats) { return thread_accumulator(floats); }
inline void finish(const float*, float*, int64_t) {}
inline void finish(const float* from, bfloat16* y, int64_t floats) {
  for (int64_t i = 0; i < floats; ++i) y[i] = from_float<bfloat16>(from[i]);
}

// dw = x[source]^T dy[target] over `pairs` pairs.
template <typename T>
void sum_outer_products(const GatherGemmShape& shape, const T* x, const T* dy,
                        const int32_t* source, const int32_t* target, int64_t pairs, float* dw) {
  const Kernels& inner = kernels();
  const int64_t panels_in = ceil_div(shape.channels_in, kPanelChannels);
  const int64_t panels_out = ceil_div(shape.channels_out, kPanelChannels);
  constexpr int64_t kPanelFloats = kGradientRows * kPanelStride;
  float* a = thread_panel(0, panels_in * kPanelFloats);
  float* b = thread_panel(1, panels_out * kPanelFloats);
  auto width = [](int64_t channels, int64_t panel) {
    return static_cast<int>(std::min<int64_t>(kPanelChannels, channels - panel * kPanelChannels));
  };
  if (pairs == 0) std::fill_n(dw, shape.channels_in * shape.channels_out, 0.0f);
  for (int64_t i = 0; i < pairs; i += kGradientRows) {
    const int rows = static_cast<int>(std::min<int64_t>(kGradientRows, pairs - i));
    for (int64_t p = 0; p < panels_in; ++p) {
      copy_rows(inner, x + p * kPanelChannels, shape.channels_in, source + i, rows,
                width(shape.channels_in, p), a + p * kPanelFloats);
    }
    for (int64_t p = 0; p < panels_out; ++p) {
      copy_rows(inner, dy + p * kPanelChannels, shape.channels_out, target + i, rows,
                width(shape.channels_out, p), b + p * kPanelFloats);
    }
    for (int64_t p = 0; p < panels_in; ++p) {
      for (int64_t q = 0; q < panels_out; ++q) {
        inner.outer(a + p * kPanelFloats, width(shape.channels_in, p), b + q * kPanelFloats,
                    width(shape.channels_out, q), rows,
                    dw + p * kPanelChannels * shape.channels_out + q * kPanelChannels,
                    shape.channels_out, i > 0);
      }
    }
  }
}

// The blocks of rows of a product, each a task of its own.
template <typename T>
class ProductBlocks {
 public:
  ProductBlocks(const GatherGemmShape& shape, WeightView view, const T* x, const T* w,
                const int32_t* map, T* y)
      : shape_(shape),
        x_(x),
        map_(map),
        y_(y),
        weights_(shape, view, w),
        bounds_(shape.channels_out == 0 ? std::vector<int64_t>{0}
                                        : block_bounds(shape.rows_out, shape.channels_out)) {}

  int64_t slots() const { return count() > 0 ? shape_.kernel : 0; }
  void pack(int64_t k) { weights_.pack(k); }

  int64_t count() const { return static_cast<int64_t>(bounds_.size()) - 1; }
  int64_t begin(int64_t i) const { return bounds_[i]; }
  int64_t end(int64_t i) const { return bounds_[i + 1]; }

  // Computes block i once all slots are packed; both others may be null.
  void compute(int64_t i, const RowAffine<T>* after, const PairLists* lists) const {
    T* out = y_ + begin(i) * shape_.channels_out;
    const int64_t floats = (end(i) - begin(i)) * shape_.channels_out;
    float* sums = accumulator(out, floats);
    convolve_block(shape_, weights_, x_, map_, lists, begin(i), end(i), sums);
    if (after != nullptr) {
      finish_rows(*after, sums, begin(i), end(i), shape_.channels_out, out);
    } else {
      finish(sums, out, floats);
    }
  }

 private:
  const GatherGemmShape shape_;
  const T* const x_;
  const int32_t* const map_;
  T* const y_;
  PackedWeights<T> weights_;
  const std::vector<int64_t> bounds_;
};

// The gradient of the weights, cut into tasks by number of pairs. Sums of one slot's tasks are
// added in their order by whoever finishes the last of them.
template <typename T>
class WeightGradient {
 public:
  WeightGradient(const GatherGemmShape& shape, const T* x, const T* dy, const int32_t* map,
                 float* dw)
      : shape_(shape),
        x_(x),
        dy_(dy),
        dw_(dw),
        matrix_(shape.channels_in * shape.channels_out),
        pairs_(shape, map),
        slots_(shape.kernel) {}

  void list(int64_t k) { pairs_.list(k); }
  const PairLists& pairs() const { return pairs_; }

  // Cuts the tasks once all slots are listed; returns how many there are.
  int64_t cut() {
    int64_t extra = 0;
    for (int64_t k = 0; k < shape_.kernel; ++k) {
      const int64_t pairs = pairs_.all(k).count;
      // Parts alike, in whole panels: a small rest would cost a matrix of its own.
      const int64_t parts = std::max<int64_t>(1, ceil_div(pairs, kPairsPerTask));
      const int64_t part =
          std::max<int64_t>(1, ceil_div(ceil_div(pairs, parts), kGradientRows)) * kGradientRows;
      int64_t count = 0;
      for (int64_t begin = 0; begin == 0 || begin < pairs; begin += part, ++count) {
        tasks_.push_back({k, begin, std::min(begin + part, pairs), extra + count - 1});
      }
      extra += count - 1;
      slots_[k].parts = slots_[k].unfinished = count;
    }
    scratch_ = aligned_floats(extra * matrix_);
    return static_cast<int64_t>(tasks_.size());
  }

  void compute(int64_t i) {
    const Task& task = tasks_[i];
    Slot& slot = slots_[task.slot];
    float* own = dw_ + task.slot * matrix_;
    const Pairs pairs = pairs_.all(task.slot);
    sum_outer_products(shape_, x_, dy_, pairs.source + task.begin, pairs.target + task.begin,
                       task.end - task.begin,
                       task.begin == 0 ? own : scratch_.get() + task.scratch * matrix_);
    if (--slot.unfinished > 0 || slot.parts == 1) return;
    int64_t first = i;
    while (tasks_[first].begin > 0) --first;
    for (int64_t other = first + 1; other < first + slot.parts; ++other) {
      const float* part = scratch_.get() + tasks_[other].scratch * matrix_;
      for (int64_t j = 0; j < matrix_; ++j) own[j] += part[j];
    }
  }

 private:
  struct Slot {
    int64_t parts = 0;
    std::atomic<int64_t> unfinished{0};
  };
  struct Task {
    int64_t slot, begin, end;
    int64_t scratch;  // number of the matrix of its own, unless it is the slot's first
  };

  const GatherGemmShape shape_;
  const T *const x_, *const dy_;
  float* const dw_;
  const int64_t matrix_;
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
  ProductBlocks<T> blocks(shape, view, x, w, map, y);
  parallel_for(blocks.slots(), [&](int64_t k) { blocks.pack(k); });
  parallel_for(blocks.count(), [&](int64_t i) { blocks.compute(i, after, nullptr); });
}

template <typename T>
void gather_gemm_moments(const GatherGemmShape& shape, const T* x, const T* w, const int32_t* map,
                         int64_t valid, T* y, float* mean, float* m2,
                         const ParallelFor& parallel_for) {
  ProductBlocks<T> blocks(shape, {}, x, w, map, y);
  const int64_t channels = shape.channels_out;
  std::vector<float> parts(blocks.count() * 2 * channels);
  auto rows = [&](int64_t i) {
    return std::clamp(valid, blocks.begin(i), blocks.end(i)) - blocks.begin(i);
  };
  parallel_for(blocks.slots(), [&](int64_t k) { blocks.pack(k); });
  parallel_for(blocks.count(), [&](int64_t i) {
    blocks.compute(i, nullptr, nullptr);
    float* part = parts.data() + i * 2 * channels;
    add_moments(y + blocks.begin(i) * channels, rows(i), channels, part, part + channels);
  });
  std::fill_n(mean, channels, 0.0f);
  std::fill_n(m2, channels, 0.0f);
  for (int64_t i = 0; i < blocks.count(); ++i) {
    const float* part = parts.data() + i * 2 * channels;
    join_moments(blocks.begin(i), mean, m2, rows(i), part, part + channels, channels);
  }
}

template <typename T>
void gather_gemm_dw(const GatherGemmShape& shape, const T* x, const T* dy, const int32_t* map,
                    float* dw, const ParallelFor& parallel_for) {
  WeightGradient<T> gradient(shape, x, dy, map, dw);
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
  ProductBlocks<T> blocks(product, {true, mirrored}, dy, w, mirrored ? map : back, dx);
  WeightGradient<T> gradient(shape, x, dy, map, dw);
  const int64_t slots = blocks.slots();
  parallel_for(slots + shape.kernel, [&](int64_t i) {
    if (i < slots) {
      blocks.pack(i);
    } else {
      gradient.list(i - slots);
    }
  });
  // The large tasks of the weights come first: the small last blocks of rows end both at once.
  const int64_t tasks = gradient.cut();
  parallel_for(tasks + blocks.count(), [&](int64_t i) {
    if (i < tasks) {
      gradient.compute(i);
    } else {
      blocks.compute(i - tasks, nullptr, mirrored ? &gradient.pairs() : nullptr);
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
