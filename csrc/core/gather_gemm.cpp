#include "core/gather_gemm.h"

#include <algorithm>
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
  PackedWeights(const GatherGemmShape& shape, WeightView view, const T* w, int tile_columns,
                const ParallelFor& parallel_for)
      : shape_(shape),
        padded_columns_(ceil_div(shape.channels_out, tile_columns) * tile_columns),
        packed_(aligned_floats(shape.kernel * shape.channels_in * padded_columns_)) {
    parallel_for(shape.kernel, [&](int64_t k) {
      const int64_t source = view.mirrored ? shape.kernel - 1 - k : k;
      pack_slot(w + source * shape.channels_in * shape.channels_out, view.transposed, tile_columns,
                packed_.get() + k * shape.channels_in * padded_columns_);
    });
  }

  const float* slot(int64_t k, int64_t first_channel) const {
    return packed_.get() + (k * shape_.channels_in + first_channel) * padded_columns_;
  }

 private:
  void pack_slot(const T* w, bool transposed, int tile_columns, float* out) const {
    const int64_t stride = transposed ? shape_.channels_in : shape_.channels_out;
    const float* floats = as_floats(w, shape_.channels_in * shape_.channels_out);
    const auto pack = transposed ? kernels().pack_transposed : kernels().pack;
    for (int64_t first = 0; first < shape_.channels_in; first += kPanelChannels) {
      const int64_t depth = std::min<int64_t>(kPanelChannels, shape_.channels_in - first);
      for (int64_t j = 0; j < padded_columns_; j += tile_columns, out += depth * tile_columns) {
        const int64_t width = std::min<int64_t>(tile_columns, shape_.channels_out - j);
        const float* corner = floats + (transposed ? first + j * stride : first * stride + j);
        pack(corner, stride, static_cast<int>(depth), static_cast<int>(width), out);
      }
    }
  }

  static const float* as_floats(const float* w, int64_t) { return w; }
  static const float* as_floats(const bfloat16* w, int64_t n) {
    float* wide = thread_accumulator(n);
    copy_to_float(w, n, wide);
    return wide;
  }

  GatherGemmShape shape_;
  int64_t padded_columns_;
  AlignedFloats packed_;
};

[[noreturn]] void refuse_entry(int64_t k, int64_t n, int32_t row, int64_t rows) {
  throw std::out_of_range("neighbour map entry [" + std::to_string(k) + ", " + std::to_string(n) +
                          "] is " + std::to_string(row) + ", but the input has " +
                          std::to_string(rows) + " rows");
}

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

template <typename T>
void convolve_block(const GatherGemmShape& shape, const PackedWeights<T>& weights, const T* x,
                    const int32_t* map, int64_t begin, int64_t end, float* y) {
  const Kernels& inner = kernels();
  thread_local std::vector<int32_t> target, source;
  target.resize(end - begin + kSpare);
  source.resize(end - begin + kSpare);
  float* panel = thread_panel(0, kPanelRows * kPanelStride);
  if (shape.kernel == 0 || shape.channels_in == 0) {
    std::fill_n(y, (end - begin) * shape.channels_out, 0.0f);
    return;
  }
  // The middle slot starts the sums of the rows it reaches without a zero being written and read
  // again: in a submanifold map all of them.
  const int64_t centre = shape.kernel / 2;
  const int32_t* reached = map + centre * shape.rows_out;
  for (int64_t n = begin; n < end; ++n) {
    if (reached[n] < 0) std::fill_n(y + (n - begin) * shape.channels_out, shape.channels_out, 0.0f);
  }
  for (int64_t i = 0; i < shape.kernel; ++i) {
    const int64_t k = i == 0 ? centre : i <= centre ? i - 1 : i;
    const int64_t pairs = existing_pairs(shape, map, k, begin, end, target.data(), source.data());
    for (int64_t first = 0; first < shape.channels_in; first += kPanelChannels) {
      const int64_t depth = std::min<int64_t>(kPanelChannels, shape.channels_in - first);
      for (int64_t p = 0; p < pairs; p += kPanelRows) {
        const int64_t rows = std::min<int64_t>(kPanelRows, pairs - p);
        copy_rows(inner, x + first, shape.channels_in, source.data() + p, static_cast<int>(rows),
                  static_cast<int>(depth), panel);
        inner.product(panel, static_cast<int>(rows), static_cast<int>(depth),
                      weights.slot(k, first), static_cast<int>(shape.channels_out), y,
                      target.data() + p, shape.channels_out, i > 0 || first > 0);
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

// All existing pairs of a map by slot, compacted.
struct PairLists {
  std::vector<std::vector<int32_t>> target, source;

  PairLists(const GatherGemmShape& shape, const int32_t* map, const ParallelFor& parallel_for)
      : target(shape.kernel), source(shape.kernel) {
    parallel_for(shape.kernel, [&](int64_t k) {
      // Scratch that stays in cache, not 2 * K arrays of rows_out zeros each time.
      thread_local std::vector<int32_t> to, from;
      to.resize(shape.rows_out + kSpare);
      from.resize(shape.rows_out + kSpare);
      const int64_t count =
          existing_pairs(shape, map, k, 0, shape.rows_out, to.data(), from.data());
      target[k].assign(to.data(), to.data() + count);
      source[k].assign(from.data(), from.data() + count);
    });
  }
};

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

}  // namespace

template <typename T>
void gather_gemm(const GatherGemmShape& shape, WeightView view, const T* x, const T* w,
                 const int32_t* map, const RowAffine<T>* after, T* y,
                 const ParallelFor& parallel_for) {
  if (shape.channels_out == 0) return;
  const PackedWeights<T> weights(shape, view, w, kernels().tile_columns, parallel_for);
  const std::vector<int64_t> bounds = block_bounds(shape.rows_out, shape.channels_out);
  parallel_for(static_cast<int64_t>(bounds.size()) - 1, [&](int64_t i) {
    const int64_t begin = bounds[i], end = bounds[i + 1];
    T* out = y + begin * shape.channels_out;
    const int64_t floats = (end - begin) * shape.channels_out;
    float* sums = accumulator(out, floats);
    convolve_block(shape, weights, x, map, begin, end, sums);
    if (after != nullptr) {
      finish_rows(*after, sums, begin, end, shape.channels_out, out);
    } else {
      finish(sums, out, floats);
    }
  });
}

template <typename T>
void gather_gemm_dw(const GatherGemmShape& shape, const T* x, const T* dy, const int32_t* map,
                    float* dw, const ParallelFor& parallel_for) {
  const PairLists pairs(shape, map, parallel_for);
  const int64_t matrix = shape.channels_in * shape.channels_out;
  struct Task {
    int64_t slot, begin, end;
    float* sum;  // the slot's own gradient for its first task, scratch for the others
  };
  std::vector<Task> tasks;
  int64_t extra = 0;
  for (int64_t k = 0; k < shape.kernel; ++k) {
    const auto count = static_cast<int64_t>(pairs.source[k].size());
    // Parts alike, in whole panels: a small rest would cost a matrix of its own.
    const int64_t parts = std::max<int64_t>(1, ceil_div(count, kPairsPerTask));
    const int64_t part =
        std::max<int64_t>(1, ceil_div(ceil_div(count, parts), kGradientRows)) * kGradientRows;
    for (int64_t begin = 0; begin == 0 || begin < count; begin += part) {
      tasks.push_back({k, begin, std::min(begin + part, count), nullptr});
      extra += begin > 0;
    }
  }
  const AlignedFloats scratch = aligned_floats(extra * matrix);
  float* next = scratch.get();
  for (Task& task : tasks) {
    task.sum = task.begin == 0 ? dw + task.slot * matrix : next;
    if (task.begin > 0) next += matrix;
  }
  parallel_for(static_cast<int64_t>(tasks.size()), [&](int64_t i) {
    const Task& task = tasks[i];
    sum_outer_products(shape, x, dy, pairs.source[task.slot].data() + task.begin,
                       pairs.target[task.slot].data() + task.begin, task.end - task.begin,
                       task.sum);
  });
  parallel_for(shape.channels_in, [&](int64_t row) {
    for (const Task& task : tasks) {
      if (task.begin == 0) continue;
      float* out = dw + task.slot * matrix + row * shape.channels_out;
      const float* part = task.sum + row * shape.channels_out;
      for (int64_t j = 0; j < shape.channels_out; ++j) out[j] += part[j];
    }
  });
}

template void gather_gemm<float>(const GatherGemmShape&, WeightView, const float*, const float*,
                                 const int32_t*, const RowAffine<float>*, float*,
                                 const ParallelFor&);
template void gather_gemm<bfloat16>(const GatherGemmShape&, WeightView, const bfloat16*,
                                    const bfloat16*, const int32_t*, const RowAffine<bfloat16>*,
                                    bfloat16*, const ParallelFor&);
template void gather_gemm_dw<float>(const GatherGemmShape&, const float*, const float*,
                                    const int32_t*, float*, const ParallelFor&);
template void gather_gemm_dw<bfloat16>(const GatherGemmShape&, const bfloat16*, const bfloat16*,
                                       const int32_t*, float*, const ParallelFor&);

}  // namespace uov
