// ParallelFor where there is no pool: in host functions, outside of XLA's handlers.
#pragma once

#include <algorithm>
#include <system_error>
#include <thread>
#include <vector>

#include "core/parallel.h"

namespace uov {

// On all processors, by threads that are started for each loop: for loops of milliseconds.
inline ParallelFor on_own_threads() {
  const int64_t threads = std::max(1u, std::thread::hardware_concurrency());
  return {threads, [threads](int64_t tasks, const ParallelFor::Task& task) {
            Claims claims(tasks, task);
            auto work = [&claims] { claims.work([] {}); };
            std::vector<std::thread> helpers;
            try {
              for (int64_t i = 1; i < std::min(threads, tasks); ++i) helpers.emplace_back(work);
            } catch (const std::system_error&) {
              // The system has no more threads to give: those that there are do the work.
            }
            work();
            for (std::thread& helper : helpers) helper.join();
            claims.rethrow();
          }};
}

}  // namespace uov
