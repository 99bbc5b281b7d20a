#include "cuda/emulation/memory.h"

#include <algorithm>
#include <string>
#include <vector>

#include "cuda/emulation/failure.h"
#include "cuda/emulation/grid.h"

namespace uov::cuda::emulated {
namespace {

struct Range {
  uintptr_t begin, end;
};
thread_local std::vector<Range> allowed;

uintptr_t place(const void* data) { return reinterpret_cast<uintptr_t>(data); }

void forget(const Range& range) {
  mark_outside(reinterpret_cast<const void*>(range.begin), range.end - range.begin);
}

}  // namespace

void allow(const void* data, size_t bytes) {
  allowed.push_back({place(data), place(data) + bytes});
}

void forbid(const void* data) {
  const auto found = std::find_if(allowed.begin(), allowed.end(),
                                  [&](const Range& range) { return range.begin == place(data); });
  if (found == allowed.end()) return;
  forget(*found);
  allowed.erase(found);
}

void require_allowed(const void* data, int64_t bytes, const char* what) {
  // Where no call has begun, as in some tests, nothing is known.
  if (bytes <= 0 || allowed.empty()) return;
  const uintptr_t begin = place(data), end = begin + static_cast<uintptr_t>(bytes);
  for (const Range& range : allowed) {
    if (begin >= range.begin && end <= range.end) return;
  }
  std::string near = "begins in none of them";
  for (const Range& range : allowed) {
    if (begin < range.begin || begin >= range.end) continue;
    near = "ends " + std::to_string(end - range.end) + " bytes past one of them";
  }
  throw KernelError(std::string(what) + " of " + std::to_string(bytes) +
                    " bytes, which is not in one argument or result of the call: it " + near);
}

Call::~Call() {
  for (const Range& range : allowed) forget(range);
  allowed.clear();
}

}  // namespace uov::cuda::emulated
