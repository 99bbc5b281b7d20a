#include "core/voxelize.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/coordinates.h"
#include "core/hash_table.h"

namespace uov {
namespace {

constexpr int64_t kPointsOfTask = 4096;

// float32 throughout, in the reference's order of operations: a point within rounding of a voxel's
// face must fall to the same side.
void quantize(const float* p, const float size[3], bool cylindrical, float out[3]) {
  float q[3] = {p[0], p[1], p[2]};
  if (cylindrical) {
    constexpr float kPi = 3.14159265358979f;
    q[0] = std::sqrt(p[0] * p[0] + p[1] * p[1]);
    q[1] = std::atan2(p[1], p[0]) * 180.0f / kPi;
  }
  for (int axis = 0; axis < 3; ++axis) out[axis] = std::floor(q[axis] / size[axis]);
}

bool is_finite(const float* p) {
  return std::isfinite(p[0]) && std::isfinite(p[1]) && std::isfinite(p[2]);
}

// The key of the point's voxel; negative if it has none.
int64_t voxel_key(const float* p, const float size[3], bool cylindrical) {
  if (!is_finite(p)) return -1;
  float cell[3];
  quantize(p, size, cylindrical, cell);
  for (float c : cell) {
    if (!(std::fabs(c) <= static_cast<float>(kCoordinateLimit))) return -1;
  }
  return coordinate_key(0, static_cast<int32_t>(cell[0]), static_cast<int32_t>(cell[1]),
                        static_cast<int32_t>(cell[2]));
}

[[noreturn]] void refuse_point(const float* p, int64_t index) {
  const std::string why = is_finite(p) ? "falls outside the coordinate range of +-" +
                                             std::to_string(kCoordinateLimit) + " voxels"
                                       : "is not finite";
  throw std::invalid_argument("point " + std::to_string(index) + " (" + std::to_string(p[0]) +
                              ", " + std::to_string(p[1]) + ", " + std::to_string(p[2]) + ") " +
                              why);
}

}  // namespace

Voxels voxelize(const float* points, int64_t n, const float size[3], bool cylindrical,
                const ParallelFor& parallel_for) {
  std::vector<int64_t> keys(n);
  parallel_for(ceil_div(n, kPointsOfTask), [&](int64_t task) {
    const int64_t end = std::min(n, (task + 1) * kPointsOfTask);
    for (int64_t i = task * kPointsOfTask; i < end; ++i) {
      keys[i] = voxel_key(points + 3 * i, size, cylindrical);
    }
  });
  Voxels voxels;
  voxels.inverse.resize(n);
  voxels.coords.reserve(3 * n);
  voxels.first.reserve(n);
  HashTable table(n);
  for (int64_t i = 0; i < n; ++i) {
    if (keys[i] < 0) refuse_point(points + 3 * i, i);
    const auto next = static_cast<int32_t>(voxels.first.size());
    const int32_t row = table.find_or_insert(keys[i], next);
    if (row == next) {
      voxels.first.push_back(static_cast<int32_t>(i));
      int32_t c[4];
      unpack_key(keys[i], c);
      voxels.coords.insert(voxels.coords.end(), c + 1, c + 4);
    }
    voxels.inverse[i] = row;
  }
  return voxels;
}

}  // namespace uov
