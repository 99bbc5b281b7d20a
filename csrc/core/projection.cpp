#include "core/projection.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace uov {
namespace {

// Points of which a camera may see none at a glance. They lie together: a sweep's points come in
// the order of their measurement.
constexpr int64_t kPointsOfBlock = 64;

double affine(const double* row, const float* p) {
  return row[0] * static_cast<double>(p[0]) + row[1] * static_cast<double>(p[1]) +
         row[2] * static_cast<double>(p[2]) + row[3];
}

struct Pixel {
  double u, v;
};

// Of a point that is deep enough.
Pixel pixel_of(const Camera& camera, const float* p) {
  const double scale = 1 / affine(camera.numbers[3], p);
  return {affine(camera.numbers[1], p) * scale, affine(camera.numbers[2], p) * scale};
}

bool inside(const Camera& camera, Pixel pixel) {
  return (pixel.u > 0) & (pixel.u < static_cast<double>(camera.width - 1)) & (pixel.v > 0) &
         (pixel.v < static_cast<double>(camera.height - 1));
}

// Half to even: numbers from 2^52 to 2^53 are the whole ones.
int32_t rounded(double place) {
  constexpr double kWhole = 0x1.8p52;
  return static_cast<int32_t>((place + kWhole) - kWhole);
}

// Some points lie within `half` of the centre on every axis.
struct Box {
  double centre[3], half[3];
};

Box box_of(const Points& points, int64_t begin, int64_t end) {
  Box box;
  for (int axis = 0; axis < 3; ++axis) {
    float low = points[begin][axis], high = low;
    for (int64_t i = begin + 1; i < end; ++i) {
      low = std::min(low, points[i][axis]);
      high = std::max(high, points[i][axis]);
    }
    box.centre[axis] = (static_cast<double>(low) + static_cast<double>(high)) / 2;
    box.half[axis] = (static_cast<double>(high) - static_cast<double>(low)) / 2;
  }
  return box;
}

// A bound that no point's a . x + b in the box exceeds, rounding and all; NaN where one is not
// finite.
double largest_in(const Box& box, const double row[4]) {
  double sum = row[3], reach = 0, size = std::fabs(row[3]);
  for (int axis = 0; axis < 3; ++axis) {
    sum += row[axis] * box.centre[axis];
    reach += std::fabs(row[axis]) * box.half[axis];
    size += std::fabs(row[axis] * box.centre[axis]);
  }
  return sum + reach + 1e-12 * (size + reach) + 1e-9;
}

// Half spaces around what a camera sees: a point where one of these is negative it does not see. By
// the image's far sides they leave a pixel, which no rounding bridges.
struct Frustum {
  double faces[5][4];
};

Frustum frustum_of(const Camera& camera) {
  Frustum frustum{};
  const double* w = camera.numbers[3];
  for (int i = 0; i < 4; ++i) {
    frustum.faces[0][i] = camera.numbers[0][i] - (i == 3 ? camera.least_depth : 0);
    for (int axis = 0; axis < 2; ++axis) {
      const auto size = static_cast<double>(axis == 0 ? camera.width : camera.height);
      const double* place = camera.numbers[1 + axis];
      frustum.faces[1 + axis][i] = place[i];
      frustum.faces[3 + axis][i] = size * w[i] - place[i];
    }
  }
  return frustum;
}

// Whether none of the points in the box can be seen. The sides are those of a camera that looks
// ahead: the last row of an intrinsic matrix is 0, 0, 1, and w is the depth.
bool sees_nothing_of(const Frustum& frustum, const Box& box, bool looks_ahead) {
  const int faces = looks_ahead ? 5 : 1;
  for (int face = 0; face < faces; ++face) {
    if (largest_in(box, frustum.faces[face]) < 0) return true;
  }
  return false;
}

void append_seen(const Points& points, const Camera& camera, int32_t number,
                 const std::vector<Box>& boxes, std::vector<Pair>& pairs) {
  const Frustum frustum = frustum_of(camera);
  const bool looks_ahead = std::equal(camera.numbers[0], camera.numbers[0] + 4, camera.numbers[3]);
  for (size_t block = 0; block < boxes.size(); ++block) {
    if (sees_nothing_of(frustum, boxes[block], looks_ahead)) continue;
    const int64_t begin = static_cast<int64_t>(block) * kPointsOfBlock;
    const int64_t end = std::min(points.count, begin + kPointsOfBlock);
    for (int64_t i = begin; i < end; ++i) {
      const float* p = points[i];
      if (!(affine(camera.numbers[0], p) > camera.least_depth)) continue;
      const Pixel pixel = pixel_of(camera, p);
      if (!inside(camera, pixel)) continue;
      pairs.push_back({static_cast<int32_t>(i), number, rounded(pixel.v), rounded(pixel.u)});
    }
  }
}

}  // namespace

void project(const Points& points, const Camera& camera, double* pixels, double* depth,
             bool* seen) {
  for (int64_t i = 0; i < points.count; ++i) {
    constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
    depth[i] = affine(camera.numbers[0], points[i]);
    const bool deep = depth[i] > camera.least_depth;
    const Pixel pixel = deep ? pixel_of(camera, points[i]) : Pixel{kNone, kNone};
    pixels[2 * i] = pixel.u;
    pixels[2 * i + 1] = pixel.v;
    seen[i] = deep && inside(camera, pixel);
  }
}

std::vector<Pair> pair_points(const Points& points, const std::vector<Camera>& cameras) {
  std::vector<Box> boxes;
  for (int64_t begin = 0; begin < points.count; begin += kPointsOfBlock) {
    boxes.push_back(box_of(points, begin, std::min(points.count, begin + kPointsOfBlock)));
  }
  std::vector<Pair> pairs;
  for (size_t number = 0; number < cameras.size(); ++number) {
    append_seen(points, cameras[number], static_cast<int32_t>(number), boxes, pairs);
  }
  return pairs;
}

}  // namespace uov
