// ParallelFor on XLA's own thread pool.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <limits>
#include <memory>
#include <mutex>

#include "core/parallel.h"
#include "xla/ffi/api/ffi.h"

namespace uov {

// How many processors this process may use. A pool may have more threads: XLA counts the processors
// of the machine, not those that a container's quota pays for.
inline std::atomic<int64_t> processors{std::numeric_limits<int64_t>::max()};

// How long a thread spins before it sleeps or goes: waking one up takes about as long.
inline constexpr auto kLongestSpin = std::chrono::microseconds(100);

// Threads that are in the loops of all handlers. Where they are more than processors, as when
// several devices compute at once, one that spins would keep another from its work.
inline std::atomic<int64_t> threads_present{0};
inline bool may_spin() { return threads_present <= processors; }

class Presence {
 public:
  Presence() { ++threads_present; }
  ~Presence() { --threads_present; }
  Presence(const Presence&) = delete;
  Presence& operator=(const Presence&) = delete;
};

// Spins until `done()` comes true, for kLongestSpin at most; returns whether it did.
template <typename Done>
bool spin_until(Done&& done) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; !done(); ++i) {
    if (i % 64 == 0 && (!may_spin() || std::chrono::steady_clock::now() - start > kLongestSpin)) {
      return done();
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  return true;
}

// One loop on a pool. A handler may itself run on a thread of this pool, so it must never wait for
// a task that no thread is free to start. Tasks are claimed from one counter by the caller and by
// whichever pool threads come; the caller works until none is left and then waits only for claimed
// ones.
class PoolLoop {
 public:
  PoolLoop(int64_t tasks, const ParallelFor::Task& task) : claims_(tasks, task) {}

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
    spin_until(done);
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
class PoolHelpers : public std::enable_shared_from_this<PoolHelpers> {
 public:
  // On at most so many threads, the caller's included.
  PoolHelpers(xla::ffi::ThreadPool& pool, int64_t threads) : pool_(pool), threads_(threads) {}

  // Runs all tasks on the calling thread and on whichever helpers come.
  void run_loop(int64_t tasks, const ParallelFor::Task& task) {
    if (tasks <= 0) return;
    auto loop = std::make_shared<PoolLoop>(tasks, task);
    int64_t missing;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      current_ = loop;
      ++loops_begun_;
      missing = std::max<int64_t>(0, std::min(threads_, tasks) - 1 - helpers_);
      helpers_ += missing;
    }
    for (int64_t i = 0; i < missing; ++i) {
      pool_.Schedule([self = shared_from_this()] { self->help(); });
    }
    loop->work();
    loop->wait();
  }

  // There will be no further loop: helpers that wait for one return to the pool.
  void release() {
    released_ = true;
    std::lock_guard<std::mutex> lock(mutex_);
    current_.reset();
  }

 private:
  void help() {
    const Presence presence;
    int64_t seen = 0;
    while (true) {
      spin_until([&] { return released_ || loops_begun_ != seen; });
      std::shared_ptr<PoolLoop> loop;
      {
        std::lock_guard<std::mutex> lock(mutex_);
        if (released_ || loops_begun_ == seen) {
          --helpers_;
          return;
        }
        seen = loops_begun_;
        loop = current_;
      }
      loop->work();
    }
  }

  xla::ffi::ThreadPool& pool_;  // not touched by helpers, which may outlive it
  const int64_t threads_;
  std::mutex mutex_;
  std::shared_ptr<PoolLoop> current_;
  std::atomic<int64_t> loops_begun_{0};
  std::atomic<bool> released_{false};
  int64_t helpers_ = 0;  // that are in help(), or on their way to it
};

inline int64_t threads_of(const xla::ffi::ThreadPool& pool) {
  return std::clamp<int64_t>(pool.num_threads(), 1, processors);
}

// Loops on at most so many threads of a pool, for the duration of one handler.
inline ParallelFor on_pool(xla::ffi::ThreadPool& pool, int64_t threads) {
  const auto helpers = std::make_shared<PoolHelpers>(pool, threads);
  // The last copy of the function lets the helpers go.
  const std::shared_ptr<Presence> guard(new Presence, [helpers](const Presence* presence) {
    helpers->release();
    delete presence;
  });
  return {threads, [helpers, guard](int64_t tasks, const ParallelFor::Task& task) {
            helpers->run_loop(tasks, task);
          }};
}

inline ParallelFor on_pool(xla::ffi::ThreadPool& pool) { return on_pool(pool, threads_of(pool)); }

}  // namespace uov
