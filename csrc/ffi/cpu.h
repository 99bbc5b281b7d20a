// What the handlers of the CPU add to what all do with their arguments.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "core/kernel_choice.h"
#include "ffi/arguments.h"
#include "ffi/thread_pool.h"

namespace uov {

// How many of `rows` rows are valid. A count beyond the capacity belongs to a plan that did not
// fit: all rows are valid then.
inline int64_t valid_rows(const Count& count, int64_t rows) {
  return std::clamp<int64_t>(count.typed_data()[0], 0, rows);
}

// `guarded`, with the same kernels throughout.
template <typename Body>
xla::ffi::Error guarded_on_cpu(Body&& body) {
  return guarded([&] {
    const auto held = hold_kernels();
    std::forward<Body>(body)();
  });
}

}  // namespace uov
