#include "core/voxelize.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/coordinates.h"
#include "core/hash_table.h"
#include "core/plan.h"
#include "core/radix_sort.h"

namespace uov {
namespace {

constexpr int64_t kPointsOfTask = 4096;
// Points whose cells are found together, without a branch.
constexpr int64_t kPointsOfBlock = 256;
// Beyond the range, and any two of them less than an int32 apart.
constexpr auto kBeyond = static_cast<float>(2 * kCoordinateLimit);

// float32 throughout, in the reference's order of operations: a point within rounding of a voxel's
// face must fall to the same side.
float exact_azimuth(float x, float y) {
  constexpr float kPi = 3.14159265358979f;
  return std::atan2(y, x) * 180.0f / kPi;
}

// The azimuth in degrees to within kAzimuthError of `exact_azimuth`, without a branch or a call:
// the arc tangent of Abramowitz and Stegun 4.4.49, good to 2e-8 and rounding, in one octant.
constexpr float kAzimuthError = 2e-4f;
float quick_azimuth(float x, float y) {
  const float ax = std::fabs(x), ay = std::fabs(y);
  const float longer = ax > ay ? ax : ay, shorter = ax > ay ? ay : ax;
  const float t = shorter / (longer > 0 ? longer : 1.0f), s = t * t;
  float p = 0.0028662257f;
  p = p * s - 0.0161657367f;
  p = p * s + 0.0429096138f;
  p = p * s - 0.0752896400f;
  p = p * s + 0.1065626393f;
  p = p * s - 0.1420889944f;
  p = p * s + 0.1999355085f;
  p = p * s - 0.3333314528f;
  float degrees = (t + t * s * p) * 57.29577951f;
  degrees = ay > ax ? 90.0f - degrees : degrees;
  degrees = 90.0f - std::copysign(90.0f - degrees, x);  // also where x or y is the negative zero
  return std::copysign(degrees, y);
}

// The cell of a finite place on one axis, or one that is out of range; no call of a library, as
// std::floor is one on processors of twenty years ago.
int32_t cell_of(float place) {
  float held = place > -kBeyond ? place : -kBeyond;
  held = held < kBeyond ? held : kBeyond;
  const auto towards_zero = static_cast<int32_t>(held);
  return towards_zero - (held < static_cast<float>(towards_zero) ? 1 : 0);
}

// Cells of some points, axis by axis.
struct Block {
  float xyz[3][kPointsOfBlock];
  int32_t cell[3][kPointsOfBlock];
  int32_t doubtful[kPointsOfBlock];  // whether `quick_azimuth` leaves the cell open
};

void cells_of_azimuths(float size, Block& block) {
  for (int64_t i = 0; i < kPointsOfBlock; ++i) {
    const float azimuth = quick_azimuth(block.xyz[0][i], block.xyz[1][i]);
    block.cell[1][i] = cell_of((azimuth - kAzimuthError) / size);
    block.doubtful[i] = block.cell[1][i] - cell_of((azimuth + kAzimuthError) / size);
  }
  for (int64_t i = 0; i < kPointsOfBlock; ++i) {
    if (block.doubtful[i] == 0) continue;
    block.cell[1][i] = cell_of(exact_azimuth(block.xyz[0][i], block.xyz[1][i]) / size);
  }
}

void find_cells(const float size[3], bool cylindrical, Block& block) {
  if (cylindrical) {
    cells_of_azimuths(size[1], block);
    for (int64_t i = 0; i < kPointsOfBlock; ++i) {
      const float x = block.xyz[0][i], y = block.xyz[1][i];
      block.cell[0][i] = cell_of(std::sqrt(x * x + y * y) / size[0]);
    }
  }
  for (int axis = 0; axis < 3; ++axis) {
    if (cylindrical && axis != 2) continue;
    for (int64_t i = 0; i < kPointsOfBlock; ++i) {
      block.cell[axis][i] = cell_of(block.xyz[axis][i] / size[axis]);
    }
  }
}

bool is_finite(const float* p) {
  return std::isfinite(p[0]) && std::isfinite(p[1]) && std::isfinite(p[2]);
}

// The keys of the voxels of points begin..end; negative where there is none.
void voxel_keys(const Points& points, int64_t begin, int64_t end, const float size[3],
                bool cylindrical, int64_t* keys) {
  Block block{};
  for (int64_t first = begin; first < end; first += kPointsOfBlock) {
    const int64_t n = std::min(kPointsOfBlock, end - first);
    bool finite = true;
    for (int64_t i = 0; i < n; ++i) {
      const float* p = points[first + i];
      finite = finite && is_finite(p);
      for (int axis = 0; axis < 3; ++axis) block.xyz[axis][i] = p[axis];
    }
    find_cells(size, cylindrical, block);
    for (int64_t i = 0; i < n; ++i) {
      const int32_t x = block.cell[0][i], y = block.cell[1][i], z = block.cell[2][i];
      keys[first + i] = coordinate_is_legal(0, x, y, z, 1) ? coordinate_key(0, x, y, z) : -1;
    }
    for (int64_t i = 0; i < n && !finite; ++i) {
      if (!is_finite(points[first + i])) keys[first + i] = -1;
    }
  }
}

[[noreturn]] void refuse_point(const float* p, int64_t index) {
  const std::string why = is_finite(p) ? "falls outside the coordinate range of +-" +
                                             std::to_string(kCoordinateLimit) + " voxels"
                                       : "is not finite";
  throw std::invalid_argument("point " + std::to_string(index) + " (" + std::to_string(p[0]) +
                              ", " + std::to_string(p[1]) + ", " + std::to_string(p[2]) + ") " +
                              why);
}

// Voxels of n points, before the first one is found.
Voxels room_for(int64_t n) {
  Voxels voxels;
  voxels.coords.resize(3 * n);
  voxels.first.resize(n);
  voxels.inverse.resize(n);
  return voxels;
}

void put(int64_t key, int32_t point, int64_t row, Voxels& voxels) {
  int32_t c[4];
  unpack_key(key, c);
  std::copy_n(c + 1, 3, voxels.coords.data() + 3 * row);
  voxels.first[row] = point;
}

void cut_to(int64_t count, Voxels& voxels) {
  voxels.coords.resize(3 * count);
  voxels.first.resize(count);
}

}  // namespace

Voxels voxelize(const Points& points, const float size[3], bool cylindrical,
                const ParallelFor& parallel_for) {
  const int64_t n = points.count;
  std::vector<int64_t> keys(n);
  parallel_for(ceil_div(n, kPointsOfTask), [&](int64_t task) {
    const int64_t end = std::min(n, (task + 1) * kPointsOfTask);
    voxel_keys(points, task * kPointsOfTask, end, size, cylindrical, keys.data());
  });
  Voxels voxels = room_for(n);
  HashTable table(n);
  int32_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (keys[i] < 0) refuse_point(points[i], i);
    const int32_t row = table.find_or_insert(keys[i], count);
    if (row == count) put(keys[i], static_cast<int32_t>(i), count++, voxels);
    voxels.inverse[i] = row;
  }
  cut_to(count, voxels);
  return voxels;
}

Voxels sorted_voxels(const Points& points, const float size[3], bool cylindrical) {
  const int64_t n = points.count;
  std::vector<int64_t> keys(n);
  voxel_keys(points, 0, n, size, cylindrical, keys.data());
  std::vector<KeyedRow> rows(n);
  for (int64_t i = 0; i < n; ++i) {
    if (keys[i] < 0) refuse_point(points[i], i);
    rows[i] = {keys[i], static_cast<int32_t>(i)};
  }
  radix_sort(rows, [](const KeyedRow& row) { return row.key; });
  Voxels voxels = room_for(n);
  int32_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    // The sort keeps the order of points within a voxel: the first one comes first.
    if (i == 0 || rows[i].key != rows[i - 1].key) put(rows[i].key, rows[i].row, count++, voxels);
    voxels.inverse[rows[i].row] = count - 1;
  }
  cut_to(count, voxels);
  return voxels;
}

}  // namespace uov
