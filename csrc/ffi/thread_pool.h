// ParallelFor on XLA's own thread pool, and the translation of exceptions into XLA errors.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>

#include "core/parallel.h"
#include "xla/ffi/api/ffi.h"

namespace uov {

// A handler may itself run on a thread of this pool, so it must never wait for a task that no
// thread is free to start. Tasks are claimed from one counter by the caller and by whichever pool
// threads come; the caller works until none is left and then waits only for claimed ones.
class PoolRun {
 public:
  PoolRun(int64_t tasks, const std::function<void(int64_t)>& task) : tasks_(tasks), task_(task) {}

  void work() {
    for (int64_t i = next_++; i < tasks_; i = next_++) {
      try {
        task_(i);
      } catch (...) {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!error_) error_ = std::current_exception();
      }
      if (++finished_ == tasks_) {
        std::lock_guard<std::mutex> lock(mutex_);
        all_finished_.notify_all();
      }
    }
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    all_finished_.wait(lock, [this] { return finished_ == tasks_; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const int64_t tasks_;
  // Outlives its use: a thread that comes late finds no task left and never touches it.
  const std::function<void(int64_t)>& task_;
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> finished_{0};
  std::mutex mutex_;
  std::condition_variable all_finished_;
  std::exception_ptr error_;
};

inline ParallelFor on_pool(xla::ffi::ThreadPool& pool) {
  return [&pool](int64_t tasks, const std::function<void(int64_t)>& task) {
    if (tasks <= 0) return;
    auto run = std::make_shared<PoolRun>(tasks, task);
    const int64_t helpers = std::min(pool.num_threads(), tasks) - 1;
    for (int64_t i = 0; i < helpers; ++i) pool.Schedule([run] { run->work(); });
    run->work();
    run->wait();
  };
}

template <typename Body>
xla::ffi::Error guarded(Body&& body) {
  try {
    body();
    return xla::ffi::Error::Success();
  } catch (const std::logic_error& error) {  // bad input
    return xla::ffi::Error(xla::ffi::ErrorCode::kInvalidArgument, error.what());
  } catch (const std::exception& error) {
    return xla::ffi::Error(xla::ffi::ErrorCode::kInternal, error.what());
  }
}

inline void require(bool condition, const char* expected) {
  if (!condition) throw std::invalid_argument(expected);
}

}  // namespace uov
