// How many voxels the levels of a sparse UNet have, without building any of them.
#pragma once

#include <cstdint>
#include <vector>

namespace uov {

// Number of voxels on each of `levels` levels, level 0 included, of voxels in any order: `coords`
// is [n, 4] (batch, x, y, z), or [n, 3] of one cloud. Throws std::invalid_argument as `sorted_rows`
// does (plan.h).
std::vector<int32_t> level_counts(const int32_t* coords, int64_t n, int64_t columns, int levels);

}  // namespace uov
