// The arrays of a plan, wherever they are computed.
#pragma once

#include <cstdint>
#include <vector>

namespace uov {

// Where they go. Level l has tensor stride 2^l and `capacities[l]` rows; padding rows of `coords`
// are -1.
struct PlanArrays {
  std::vector<int64_t> capacities;
  std::vector<int32_t*> coords;          // levels 1.. only: [capacity, 4]
  std::vector<int32_t*> same;            // [27, capacity] per level
  int32_t* first = nullptr;              // [125, capacity of level 0] or null
  std::vector<int32_t*> down;            // [8, capacity of level l + 1]
  std::vector<int32_t*> down_transpose;  // [8, capacity of level l]
};

}  // namespace uov
