// Points to voxels, in order of first occurrence.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "core/parallel.h"

namespace uov {

struct Voxels {
  std::vector<int32_t> coords;   // [V, 3]
  std::vector<int32_t> first;    // [V]: the first point, in file order, that falls into the voxel
  std::vector<int32_t> inverse;  // [N]: the voxel of every point
};

// `points` is [n, 3] in metres. Cylindrical voxels are (radius, azimuth in degrees, z) / size.
// Throws std::invalid_argument naming the point that is not finite or out of range.
Voxels voxelize(const float* points, int64_t n, const float size[3], bool cylindrical,
                const ParallelFor& parallel_for);

}  // namespace uov
