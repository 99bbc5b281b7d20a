// ParallelFor where there is no pool: in host functions, outside of XLA's handlers.
#pragma once

#include <algorithm>
#include <exception>
#include <thread>
#include <vector>

#include "core/parallel.h"

namespace uov {

// On so many threads, the caller's own and others that are started for each loop: for loops of
// milliseconds, on no more threads than `threads_worth`.
inline ParallelFor on_own_threads(int64_t threads) {
  return {threads, [threads](int64_t tasks, const ParallelFor::Task& task) {
            Claims claims(tasks, task);
            auto work = [&claims] { claims.work([] {}); };
            std::vector<std::thread> helpers;
            const int64_t wanted = std::min(threads, tasks);
            helpers.reserve(std::max<int64_t>(1, wanted));
            try {
              for (int64_t i = 1; i < wanted; ++i) helpers.emplace_back(work);
            } catch (const std::exception&) {
              // The system has no more of them to give: those that there are do the work.
            }
            work();
            for (std::thread& helper : helpers) helper.join();
            claims.rethrow();
          }};
}

}  // namespace uov
