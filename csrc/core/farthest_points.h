// Farthest-point sampling, exact.
#pragma once

#include <cstdint>
#include <vector>

namespace uov {

// Rows of `points` [n, 3] in metres: row 0, then `count` - 1 times the row farthest from all those
// chosen, the lowest of equally far ones. As in PointNet++'s operator, distances are float32 and
// points with a squared norm of 1e-3 or less (a sensor's mark for a missing return) are never
// chosen, row 0 excepted. Rows repeat where there are fewer places than `count`.
// Throws std::invalid_argument where `count` is not 1..n or a point is not finite, and names it.
std::vector<int32_t> farthest_points(const float* points, int64_t n, int64_t count);

}  // namespace uov
