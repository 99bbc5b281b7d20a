// The weight gradient of a gather-GEMM, cut by number of pairs.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "core/gather_gemm_shape.h"
#include "core/pair_lists.h"
#include "core/scratch.h"

namespace uov {

// The gradient of the weights. The pairs of a slot are cut into parts, each with sums of its own,
// which are added in their order by whoever finishes the last of them. A task has parts of a few
// slots that go over the same rows; which slots those are does not matter to any sum.
template <typename T>
class WeightGradient {
 public:
  WeightGradient(const GatherGemmShape& shape, const T* x, const T* dy, const int32_t* map,
                 float* dw, int64_t threads);

  void list(int64_t k) { pairs_.list(k); }
  const PairLists& pairs() const { return pairs_; }

  // Cuts the tasks once all slots are listed; returns how many there are.
  int64_t cut();

  void compute(int64_t i);

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

  static int64_t slots_of_task(const GatherGemmShape& shape, int64_t threads);

  float* sums_at(int64_t k, int64_t part) const {
    return part == 0 ? dw_ + k * matrix_
                     : scratch_.get() + (slots_[k].scratch + part - 1) * matrix_;
  }

  // The slots take turns, a few pairs at a time: whichever has come least far. So they pass over
  // the rows together, and find most of them in the cache.
  void sum_parts(const Task& task) const;

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

}  // namespace uov
