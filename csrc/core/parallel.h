// How core functions spread work: tasks 0..n-1 in any order, on whatever threads the caller has.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
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

// The tasks of one loop, claimed from one counter by whichever threads come.
class Claims {
 public:
  Claims(int64_t tasks, const ParallelFor::Task& task) : tasks_(tasks), task_(task) {}

  // Runs tasks until none is left to claim; calls `ran` after each.
  template <typename Ran>
  void work(Ran&& ran) {
    for (int64_t i = next_++; i < tasks_; i = next_++) {
      try {
        task_(i);
      } catch (...) {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!error_) error_ = std::current_exception();
      }
      ran();
    }
  }

  int64_t tasks() const { return tasks_; }

  // Throws what a task has thrown, once all have ended.
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const int64_t tasks_;
  // Outlives its use: a thread that comes late finds no task left and never touches it.
  const ParallelFor::Task& task_;
  std::atomic<int64_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
};

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// How many of `threads` threads are worth starting for a loop over so many points or voxels. A
// thread takes tens of microseconds to start or to wake, and passes over about as many rows as
// these in ten times that.
inline int64_t threads_worth(int64_t rows, int64_t threads) {
  constexpr int64_t kRowsOfThread = 2048;
  return std::clamp<int64_t>(rows / kRowsOfThread, 1, std::max<int64_t>(1, threads));
}

// Rows of one task that moves [rows, channels]: about 256 KiB of floats, enough to hide the claim,
// few enough to balance.
inline int64_t rows_per_task(int64_t channels) {
  return std::max<int64_t>(1, 64 * 1024 / std::max<int64_t>(1, channels));
}

// Calls body(begin, end) for all tasks of `rows_per_task` rows; the last one may have fewer.
inline void for_row_blocks(int64_t rows, int64_t channels, const ParallelFor& parallel_for,
                           const std::function<void(int64_t, int64_t)>& body) {
  const int64_t block = rows_per_task(channels);
  parallel_for(ceil_div(rows, block),
               [&](int64_t i) { body(i * block, std::min((i + 1) * block, rows)); });
}

}  // namespace uov
