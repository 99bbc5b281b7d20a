// Points in the images of several cameras, in double precision.
#pragma once

#include <cstdint>
#include <vector>

#include "core/points.h"

namespace uov {

// A camera as affine functions of a point x: the first row of `numbers` gives its depth in metres,
// the others the three coordinates that its pixel is made of, each as a . x + b.
struct Camera {
  double numbers[4][4];
  int64_t height, width;
  double least_depth;  // metres; what is not deeper is not seen
};

// Column and row [n, 2] and depth [n] of every point, NaN where a point is not deep enough, and
// whether a point is seen: deep enough, and strictly inside the image less one pixel.
void project(const Points& points, const Camera& camera, double* pixels, double* depth, bool* seen);

// A point that a camera sees, and its pixel, rounded half to even.
struct Pair {
  int32_t point, camera, row, column;
};

// The seen points of every camera, camera by camera.
std::vector<Pair> pair_points(const Points& points, const std::vector<Camera>& cameras);

}  // namespace uov
