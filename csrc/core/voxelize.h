// Points to voxels, in order of first occurrence or of their coordinates.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "core/parallel.h"
#include "core/points.h"

namespace uov {

struct Voxels {
  std::vector<int32_t> coords;   // [V, 3]
  std::vector<int32_t> first;    // [V]: the first point, in file order, that falls into the voxel
  std::vector<int32_t> inverse;  // [N]: the voxel of every point
};

// Voxels of points in metres, in order of first occurrence. Cylindrical ones are (radius, azimuth
// in degrees, z) / size. Throws std::invalid_argument naming the point that is not finite or out of
// range.
Voxels voxelize(const Points& points, const float size[3], bool cylindrical,
                const ParallelFor& parallel_for);

// The same voxels in the order of (x, y, z), in the caller's thread alone: the order that plans are
// built in.
Voxels sorted_voxels(const Points& points, const float size[3], bool cylindrical);

}  // namespace uov
