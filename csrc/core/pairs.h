// Pairs of points and cameras that see them: those that augmentation keeps, and the masks they hit.
#pragma once

#include <cstdint>
#include <vector>

#include "core/projection.h"

namespace uov {

// Pairs column by column, camera by camera.
struct PairColumns {
  const int32_t *point, *camera, *row, *column;
  int64_t count;
};

// The pairs of the points `kept`, rising numbers below `num_points`, which are counted anew. Throws
// std::invalid_argument for a pair of a point that there is not.
std::vector<Pair> pairs_of_points(const PairColumns& pairs, const std::vector<int32_t>& kept,
                                  int64_t num_points);

// A part of an image: rows and columns from the first one up to the end.
struct Window {
  int64_t first_row, end_row, first_column, end_column;
};

// How many pixels lie in a window.
int64_t count_inside(const int32_t* rows, const int32_t* columns, int64_t count,
                     const Window& window);

// The pairs in the windows of their cameras. Throws std::invalid_argument for a camera without one.
std::vector<Pair> pairs_inside(const PairColumns& pairs, const std::vector<Window>& windows);

// A camera's mask image as runs of equal ids in row-major order.
struct MaskRuns {
  const int32_t* start;  // [runs], the first pixel of each, rising from 0
  const uint16_t* ids;   // [runs], 0 for none, else up to `masks`
  int64_t runs, height, width, masks;
};

// Where runs of these lengths [runs] begin; false unless they are above 0 and fill the image's
// pixels.
bool run_starts(const int64_t* lengths, int64_t runs, int64_t pixels, int32_t* start);

// The mask under every pixel [count]. Throws std::invalid_argument for one outside of the image.
void look_up(const MaskRuns& runs, const int32_t* rows, const int32_t* columns, int64_t count,
             uint16_t* ids);

// The pairs grouped by the masks that they hit; pairs on none take no part.
struct Groups {
  std::vector<int32_t> pair_point;       // [P]
  std::vector<int32_t> pair_superpoint;  // [P]: a row of `mask`
  std::vector<int32_t> mask;             // [S]: rising numbers of the masks hit, counted through
                                         // the cameras from 0
};
Groups group_pairs(const PairColumns& pairs, const std::vector<MaskRuns>& cameras);

}  // namespace uov
