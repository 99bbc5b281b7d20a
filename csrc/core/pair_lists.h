// The existing entries of a neighbour map as pairs of rows, slot by slot.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/gather_gemm_shape.h"
#include "core/kernels.h"

namespace uov {

// Pairs of one slot: rows of the result, from some row on, and of the input, in ascending order.
struct Pairs {
  const int32_t *target, *source;
  int64_t count;
};

// The existing entries of map[begin, end): their output rows (relative to begin) and input rows.
// Throws std::out_of_range naming an entry of rows_in or more.
int64_t existing_pairs(const GatherGemmShape& shape, const int32_t* map, int64_t k, int64_t begin,
                       int64_t end, int32_t* target, int32_t* source);

// How many rows of the result have a neighbour before none has one: the rest is padding. `map` is
// [K, rows].
int64_t used_rows(const GatherGemmShape& shape, const int32_t* map);

// All existing pairs of a map, by slot.
class PairLists {
 public:
  PairLists(const GatherGemmShape& shape, const int32_t* map)
      : shape_(shape),
        map_(map),
        room_(shape.rows_out + kSpare),
        // One piece of memory, of which the lists touch what they need.
        rows_(new int32_t[2 * shape.kernel * room_]),
        counts_(shape.kernel) {}

  // Must have run for every slot before the others are of use.
  void list(int64_t k) {
    int32_t* target = rows_.get() + 2 * k * room_;
    counts_[k] = existing_pairs(shape_, map_, k, 0, shape_.rows_out, target, target + room_);
  }

  Pairs all(int64_t k) const {
    const int32_t* target = rows_.get() + 2 * k * room_;
    return {target, target + room_, counts_[k]};
  }

  // Those of rows [begin, end), counted from row 0.
  Pairs between(int64_t k, int64_t begin, int64_t end) const {
    const Pairs pairs = all(k);
    const int32_t* last = pairs.target + pairs.count;
    const int32_t* from = std::lower_bound(pairs.target, last, static_cast<int32_t>(begin));
    const int32_t* to = std::lower_bound(from, last, static_cast<int32_t>(end));
    return {from, pairs.source + (from - pairs.target), to - from};
  }

 private:
  const GatherGemmShape shape_;
  const int32_t* const map_;
  const int64_t room_;
  const std::unique_ptr<int32_t[]> rows_;
  std::vector<int64_t> counts_;
};

}  // namespace uov
