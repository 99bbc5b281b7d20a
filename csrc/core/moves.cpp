#include "core/moves.h"

#include <algorithm>
#include <cmath>

namespace uov {
namespace {

// a * b + c rounded once, as fused multiply-adds do and as BLAS computes x @ rotation: the product
// of two float32 is exact in double.
float fused(float a, float b, float c) {
  return static_cast<float>(static_cast<double>(a) * static_cast<double>(b) +
                            static_cast<double>(c));
}

}  // namespace

void move_points(const Points& points, const Move& move, float* moved) {
  for (int64_t i = 0; i < points.count; ++i) {
    const float* p = points[i];
    // The third product of each is one with 0, which only clears the sign of a zero.
    const float turned_x = fused(p[1], -move.sine, p[0] * move.cosine) + 0.0f * p[2];
    const float turned_y = fused(p[1], move.cosine, p[0] * move.sine) + 0.0f * p[2];
    const float x = move.turns ? turned_x : p[0], y = move.turns ? turned_y : p[1];
    moved[3 * i] = x * move.sign_x * move.factor;
    moved[3 * i + 1] = y * move.sign_y * move.factor;
    moved[3 * i + 2] = p[2] * move.factor;
  }
}

void extent(const Points& points, float out[3]) {
  for (int axis = 0; axis < 3; ++axis) {
    float low = points.count > 0 ? points[0][axis] : 0, high = low;
    for (int64_t i = 1; i < points.count; ++i) {
      low = std::min(low, points[i][axis]);
      high = std::max(high, points[i][axis]);
    }
    out[axis] = high - low;
  }
}

std::vector<int32_t> outside_box(const Points& points, const float centre[3],
                                 const float half_sides[3]) {
  std::vector<int32_t> rows(points.count);
  int64_t count = 0;
  for (int64_t i = 0; i < points.count; ++i) {
    const float* p = points[i];
    bool inside = true;
    for (int axis = 0; axis < 3; ++axis) {
      inside = inside & (std::fabs(p[axis] - centre[axis]) < half_sides[axis]);
    }
    rows[count] = static_cast<int32_t>(i);
    count += inside ? 0 : 1;
  }
  rows.resize(count);
  return rows;
}

}  // namespace uov
