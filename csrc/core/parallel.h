// How core functions spread work: tasks 0..n-1 in any order, on whatever threads the caller has.
#pragma once

#include <cstdint>
#include <functional>

namespace uov {

// Runs every task exactly once and returns when all have finished. Results must not depend on
// which thread runs a task or on how many there are: a task owns what it writes.
using ParallelFor = std::function<void(int64_t tasks, const std::function<void(int64_t)>& task)>;

inline void serial_for(int64_t tasks, const std::function<void(int64_t)>& task) {
  for (int64_t i = 0; i < tasks; ++i) task(i);
}

}  // namespace uov
