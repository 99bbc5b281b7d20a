// ParallelFor on XLA's own thread pool.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "core/parallel.h"
#include "xla/ffi/api/ffi.h"

namespace uov {

// How long a thread looks for more to do before it lets go: waking one up takes about as long.
inline constexpr auto kPatience = std::chrono::microseconds(100);

// Whether `done()` came true within the patience.
template <typename Done>
bool watch(Done&& done) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 1; !done(); ++i) {
    if (i % 64 == 0 && std::chrono::steady_clock::now() - start > kPatience) return done();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  return true;
}

// A handler may itself run on a thread of this pool, so it must never wait for a task that no
// thread is free to start. Tasks are claimed from one counter by the caller and by whichever pool
// threads come; the caller works until none is left and then waits only for claimed ones.
class PoolRun {
 public:
  PoolRun(int64_t tasks, const ParallelFor::Task& task) : claims_(tasks, task) {}

  void work() {
    claims_.work([this] {
      if (++finished_ == claims_.tasks()) {
        std::lock_guard<std::mutex> lock(mutex_);
        all_finished_.notify_all();
      }
    });
  }

  void wait() {
    auto done = [this] { return finished_ == claims_.tasks(); };
    watch(done);
    std::unique_lock<std::mutex> lock(mutex_);
    all_finished_.wait(lock, done);
    claims_.rethrow();
  }

 private:
  Claims claims_;
  std::atomic<int64_t> finished_{0};
  std::mutex mutex_;
  std::condition_variable all_finished_;
};

// The pool threads that help one handler. Those that have come stay for its next loops, unless one
// is long in coming.
class Crew : public std::enable_shared_from_this<Crew> {
 public:
  explicit Crew(xla::ffi::ThreadPool& pool) : pool_(pool), threads_(pool.num_threads()) {}

  void run(int64_t tasks, const ParallelFor::Task& task) {
    if (tasks <= 0) return;
    auto run = std::make_shared<PoolRun>(tasks, task);
    int64_t missing;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      current_ = run;
      ++loop_;
      missing = std::max<int64_t>(0, std::min(threads_, tasks) - 1 - helpers_);
      helpers_ += missing;
    }
    for (int64_t i = 0; i < missing; ++i) {
      pool_.Schedule([crew = shared_from_this()] { crew->help(); });
    }
    run->work();
    run->wait();
  }

  void dismiss() {
    dismissed_ = true;
    std::lock_guard<std::mutex> lock(mutex_);
    current_.reset();
  }

 private:
  void help() {
    int64_t seen = 0;
    while (true) {
      watch([&] { return dismissed_ || loop_ != seen; });
      std::shared_ptr<PoolRun> run;
      {
        std::lock_guard<std::mutex> lock(mutex_);
        if (dismissed_ || loop_ == seen) {
          --helpers_;
          return;
        }
        seen = loop_;
        run = current_;
      }
      run->work();
    }
  }

  xla::ffi::ThreadPool& pool_;  // not touched by helpers, which may outlive it
  const int64_t threads_;
  std::mutex mutex_;
  std::shared_ptr<PoolRun> current_;
  std::atomic<int64_t> loop_{0};
  std::atomic<bool> dismissed_{false};
  int64_t helpers_ = 0;
};

// Loops on a pool, for the duration of one handler.
inline ParallelFor on_pool(xla::ffi::ThreadPool& pool) {
  const std::shared_ptr<Crew> crew(std::make_shared<Crew>(pool));
  // The last copy of the function lets the helpers go.
  const std::shared_ptr<void> guard(nullptr, [crew](void*) { crew->dismiss(); });
  return {std::max<int64_t>(1, pool.num_threads()),
          [crew, guard](int64_t tasks, const ParallelFor::Task& task) { crew->run(tasks, task); }};
}

}  // namespace uov
