#include "core/pair_lists.h"

#include <stdexcept>
#include <string>

namespace uov {
namespace {

[[noreturn]] void refuse_entry(int64_t k, int64_t n, int32_t row, int64_t rows) {
  throw std::out_of_range("neighbour map entry [" + std::to_string(k) + ", " + std::to_string(n) +
                          "] is " + std::to_string(row) + ", but the input has " +
                          std::to_string(rows) + " rows");
}

}  // namespace

int64_t existing_pairs(const GatherGemmShape& shape, const int32_t* map, int64_t k, int64_t begin,
                       int64_t end, int32_t* target, int32_t* source) {
  const int32_t* entries = map + k * shape.rows_out + begin;
  const int count = kernels().existing_pairs(entries, static_cast<int>(end - begin),
                                             static_cast<int>(shape.rows_in), target, source);
  if (count < 0) {
    for (int64_t n = 0; n < end - begin; ++n) {
      if (entries[n] >= shape.rows_in) refuse_entry(k, begin + n, entries[n], shape.rows_in);
    }
  }
  return count;
}

int64_t used_rows(const GatherGemmShape& shape, const int32_t* map) {
  constexpr int64_t kStep = 64;
  int64_t used = 0;
  for (int64_t k = 0; k < shape.kernel; ++k) {
    const int32_t* entries = map + k * shape.rows_out;
    int64_t end = shape.rows_out;
    for (; end - kStep >= used; end -= kStep) {
      int32_t all_negative = -1;
      for (int64_t n = end - kStep; n < end; ++n) all_negative &= entries[n];
      if (all_negative >= 0) break;
    }
    while (end > used && entries[end - 1] < 0) --end;
    used = std::max(used, end);
  }
  return used;
}

}  // namespace uov
