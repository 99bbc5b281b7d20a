#include "core/weight_gradient.h"

#include <algorithm>

#include "core/bfloat16.h"
#include "core/kernels.h"
#include "core/parallel.h"

namespace uov {
namespace {

// Most pairs of a weight gradient that are added at a time. Twice as many halve the passes over its
// matrix, but of rows that are read where they lie, fewer stay in the first-level cache.
constexpr int64_t kGradientRows = 2 * kPanelRows;
constexpr int64_t kGradientRowsInPlace = kPanelRows;
constexpr int64_t kCrowdedChannels = 128;
// Most pairs of a slot that one task of a weight gradient adds; a fixed number, so that sums do not
// depend on the threads.
constexpr int64_t kPairsOfPart = 4096;
// Slots of one such task: at most so many, their matrices stay in the second-level cache, and there
// are so many tasks for each thread at least.
constexpr int64_t kSlotsOfTask = 3;
constexpr int64_t kTaskFloats = 64 * 1024;
constexpr int64_t kTasksOfThread = 4;

// The rows of x at `index` in a panel of the thread, for `multiply.outer`.
template <typename T>
Rows factor_panel(const T* x, int64_t channels, const int32_t* index, int rows, Factor which) {
  int64_t stride = ceil_div(channels, kPanelSpare) * kPanelSpare + kPanelSpare;
  if (stride % kCrowdedChannels == 0) stride += kPanelSpare;
  float* panel = thread_panel(which, kGradientRows * stride);
  row_kernels<T>().copy.factor(x, channels, index, rows, static_cast<int>(channels), panel, stride);
  return {panel, stride, nullptr};
}

// Whether `multiply.outer` may read the rows where they lie. They must be words, and tiles must
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
                          : factor_panel(x, channels_in, pairs.source, rows, Factor::kLeft);
  const Rows b = in_place ? Rows{reinterpret_cast<const float*>(dy), channels_out, pairs.target}
                          : factor_panel(dy, channels_out, pairs.target, rows, Factor::kRight);
  inner.multiply.outer(a, channels_in, b, channels_out, inner.words(rows),
                       static_cast<int>(std::min(following, pairs.count)), dw, channels_out, add);
}

}  // namespace

template <typename T>
WeightGradient<T>::WeightGradient(const GatherGemmShape& shape, const T* x, const T* dy,
                                  const int32_t* map, float* dw, int64_t threads)
    : shape_(shape),
      x_(x),
      dy_(dy),
      dw_(dw),
      matrix_(shape.channels_in * shape.channels_out),
      groups_(ceil_div(shape.kernel, slots_of_task(shape, threads))),
      pairs_(shape, map),
      slots_(shape.kernel) {}

template <typename T>
int64_t WeightGradient<T>::cut() {
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

template <typename T>
void WeightGradient<T>::compute(int64_t i) {
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

template <typename T>
int64_t WeightGradient<T>::slots_of_task(const GatherGemmShape& shape, int64_t threads) {
  const int64_t matrix = std::max<int64_t>(1, shape.channels_in * shape.channels_out);
  const int64_t enough = shape.kernel / (kTasksOfThread * threads);
  return std::clamp<int64_t>(std::min(kTaskFloats / matrix, enough), 1, kSlotsOfTask);
}

template <typename T>
void WeightGradient<T>::sum_parts(const Task& task) const {
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

template class WeightGradient<float>;
template class WeightGradient<bfloat16>;

}  // namespace uov
