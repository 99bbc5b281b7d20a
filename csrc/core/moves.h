// Augmentation of a sweep: its points moved, and those in a box dropped.
#pragma once

#include <cstdint>
#include <vector>

#include "core/points.h"

namespace uov {

// A turn about z, mirror images and a scale, one after the other, each rounded to float32.
struct Move {
  bool turns;
  float cosine, sine;
  float sign_x, sign_y;
  float factor;
};

// The moved points [n, 3].
void move_points(const Points& points, const Move& move, float* moved);

// Largest less smallest coordinate on each axis; 0 without points.
void extent(const Points& points, float out[3]);

// The points that do not lie inside the box: within half its sides of the centre on every axis.
std::vector<int32_t> outside_box(const Points& points, const float centre[3],
                                 const float half_sides[3]);

}  // namespace uov
