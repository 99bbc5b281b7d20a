#include "core/view.h"

#include <cmath>

namespace uov {
namespace {

constexpr int64_t kPointsOfTask = 4096;

// A coordinate's pixel, -1 where that is not in [first, end). What is far outside, or no number at
// all, is told apart before it is rounded: it may fit no integer.
int64_t pixel(double place, int64_t first, int64_t end) {
  if (!(place > static_cast<double>(first - 1) && place < static_cast<double>(end))) return -1;
  const auto rounded = static_cast<int64_t>(std::nearbyint(place));
  return rounded >= first && rounded < end ? rounded : -1;
}

// One of a point's coordinates in the camera.
double along(const PinholeView& view, int axis, const float* p) {
  const double* r = view.world_to_camera + 4 * axis;
  return r[0] * static_cast<double>(p[0]) + r[1] * static_cast<double>(p[1]) +
         r[2] * static_cast<double>(p[2]) + r[3];
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
  for (int64_t i = begin; i < end; ++i) {
    const float* p = points + 3 * i;
    const double z = along(view, 2, p);
    // What is not before the camera is not seen: without depth by definition, with it because no
    // tolerance below 1 lets it pass.
    if (!(z > 0)) continue;
    const int64_t column =
        pixel(along(view, 0, p) * view.fx / z + view.cx, view.cut, view.width - view.cut);
    if (column < 0) continue;
    const int64_t row =
        pixel(along(view, 1, p) * view.fy / z + view.cy, view.cut, view.height - view.cut);
    if (row < 0 || !seen(z, row, column, view, depth)) continue;
    found.point.push_back(static_cast<int32_t>(i));
    found.row.push_back(static_cast<int32_t>(row));
    found.column.push_back(static_cast<int32_t>(column));
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
