// How core functions spread work: tasks 0..n-1 in any order, on whatever threads the caller has.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>

namespace uov {

// Runs every task exactly once and returns when all have finished. Results must not depend on
// which thread runs a task or on how many threads there are: a task owns what it writes.
class ParallelFor {
 public:
  using Task = std::function<void(int64_t)>;
  using Run = std::function<void(int64_t tasks, const Task& task)>;

  ParallelFor(int64_t threads, Run run) : threads_(threads), run_(std::move(run)) {}

  // How many there may be, at least 1, for a cut into tasks that suits them.
  int64_t threads() const { return threads_; }
  void operator()(int64_t tasks, const Task& task) const { run_(tasks, task); }

 private:
  int64_t threads_;
  Run run_;
};

inline const ParallelFor serial_for(1, [](int64_t tasks, const ParallelFor::Task& task) {
  for (int64_t i = 0; i < tasks; ++i) task(i);
});

// Rows of one task that moves [rows, channels]: about 256 KiB of floats, enough to hide the claim,
// few enough to balance.
inline int64_t rows_per_task(int64_t channels) {
  return std::max<int64_t>(1, 64 * 1024 / std::max<int64_t>(1, channels));
}

// Calls body(begin, end) for all tasks of `rows_per_task` rows; the last one may have fewer.
inline void for_row_blocks(int64_t rows, int64_t channels, const ParallelFor& parallel_for,
                           const std::function<void(int64_t, int64_t)>& body) {
  const int64_t block = rows_per_task(channels);
  parallel_for((rows + block - 1) / block,
               [&](int64_t i) { body(i * block, std::min((i + 1) * block, rows)); });
}

}  // namespace uov
