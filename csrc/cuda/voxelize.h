// Points to voxels, in order of first occurrence: what core/voxelize.h finds, bit for bit but for
// the rounding of azimuths (voxelize.cu).
#pragma once

#include <cstdint>

#include "cuda/launch.h"

namespace uov::cuda {

struct VoxelSize {
  float axis[3];
  bool cylindrical;  // of radius, azimuth in degrees, z
};

// Room for as many voxels as points; what lies past the voxels is -1.
struct VoxelArrays {
  int32_t* coords;   // [n, 4]: batch 0, x, y, z
  int32_t* first;    // [n]: the first point of the voxel
  int32_t* inverse;  // [n]: the voxel of every point, -1 past the count
  int32_t* voxels;   // []: how many
};

int64_t voxelize_workspace(int64_t n);

// `points` is float32 [n, 3], of which the first `count` [] are looked at. A point that is not
// finite or out of range, or a count that is none, is a fault: then there are INT32_MAX voxels and
// all arrays are -1.
void voxelize(Stream stream, const float* points, const int32_t* count, int64_t n,
              const VoxelSize& size, const VoxelArrays& arrays, void* workspace, int32_t* fault);

}  // namespace uov::cuda
