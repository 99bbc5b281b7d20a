#include "core/view.h"

#include <algorithm>
#include <cmath>

namespace uov {
namespace {

constexpr int64_t kPointsOfTask = 4096;
// Points whose pixels are found together, without a branch.
constexpr int64_t kPointsOfBlock = 256;

// Some points in the camera.
struct Block {
  double z[kPointsOfBlock];
  double row[kPointsOfBlock], column[kPointsOfBlock];  // whole numbers, -1 where there is no pixel
};

// One of a point's coordinates in the camera.
double along(const PinholeView& view, int axis, const float* p) {
  const double* r = view.world_to_camera + 4 * axis;
  return r[0] * static_cast<double>(p[0]) + r[1] * static_cast<double>(p[1]) +
         r[2] * static_cast<double>(p[2]) + r[3];
}

// Pixels of `places` on one axis, in place: rounded, -1 where that is not in [first, end).
void round_pixels(double* places, double first, double end) {
  // Half to even: numbers from 2^52 to 2^53 are the whole ones.
  constexpr double kWhole = 0x1.8p52;
  for (int64_t i = 0; i < kPointsOfBlock; ++i) {
    double place = places[i];
    place = place > first - 1 ? place : first - 1;  // also what is no number
    place = place < end ? place : end;
    const double rounded = (place + kWhole) - kWhole;
    places[i] = rounded >= first && rounded < end ? rounded : -1.0;
  }
}

void project(const float* points, int64_t n, const PinholeView& view, Block& block) {
  for (int64_t i = 0; i < n; ++i) {
    block.column[i] = along(view, 0, points + 3 * i);
    block.row[i] = along(view, 1, points + 3 * i);
    block.z[i] = along(view, 2, points + 3 * i);
  }
  for (int64_t i = 0; i < kPointsOfBlock; ++i) {
    block.column[i] = block.column[i] * view.fx / block.z[i] + view.cx;
    block.row[i] = block.row[i] * view.fy / block.z[i] + view.cy;
  }
  const auto cut = static_cast<double>(view.cut);
  round_pixels(block.column, cut, static_cast<double>(view.width - view.cut));
  round_pixels(block.row, cut, static_cast<double>(view.height - view.cut));
}

// Of a point with z > 0.
template <typename T>
bool seen(double z, int64_t row, int64_t column, const PinholeView& view,
          const DepthImage<T>& depth) {
  if (depth.values == nullptr) return true;
  const double value = depth.values[row * view.width + column];
  if (!(value > 0) || value == depth.missing) return false;
  const double metres = value / depth.units;
  return std::fabs(metres - z) <= depth.tolerance * metres;
}

template <typename T>
void look(const float* points, int64_t begin, int64_t end, const PinholeView& view,
          const DepthImage<T>& depth, SeenPoints& found) {
  Block block{};
  for (int64_t first = begin; first < end; first += kPointsOfBlock) {
    const int64_t n = std::min(kPointsOfBlock, end - first);
    project(points + 3 * first, n, view, block);
    for (int64_t i = 0; i < n; ++i) {
      // What is not before the camera is not seen: without depth by definition, with it because no
      // tolerance below 1 lets it pass.
      if (!(block.z[i] > 0 && block.row[i] >= 0 && block.column[i] >= 0)) continue;
      const auto row = static_cast<int64_t>(block.row[i]);
      const auto column = static_cast<int64_t>(block.column[i]);
      if (!seen(block.z[i], row, column, view, depth)) continue;
      found.point.push_back(static_cast<int32_t>(first + i));
      found.row.push_back(static_cast<int32_t>(row));
      found.column.push_back(static_cast<int32_t>(column));
    }
  }
}

void append(std::vector<int32_t>& all, const std::vector<int32_t>& part) {
  all.insert(all.end(), part.begin(), part.end());
}

}  // namespace

template <typename T>
SeenPoints seen_points(const float* points, int64_t n, const PinholeView& view,
                       const DepthImage<T>& depth, const ParallelFor& parallel_for) {
  std::vector<SeenPoints> parts(ceil_div(n, kPointsOfTask));
  parallel_for(static_cast<int64_t>(parts.size()), [&](int64_t task) {
    const int64_t end = std::min(n, (task + 1) * kPointsOfTask);
    look(points, task * kPointsOfTask, end, view, depth, parts[task]);
  });
  SeenPoints found;
  for (const SeenPoints& part : parts) {
    append(found.point, part.point);
    append(found.row, part.row);
    append(found.column, part.column);
  }
  return found;
}

template SeenPoints seen_points(const float*, int64_t, const PinholeView&,
                                const DepthImage<uint16_t>&, const ParallelFor&);
template SeenPoints seen_points(const float*, int64_t, const PinholeView&, const DepthImage<float>&,
                                const ParallelFor&);

}  // namespace uov
