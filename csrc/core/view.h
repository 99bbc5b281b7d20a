// Which points of a cloud one posed image sees, and at which pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "core/parallel.h"

namespace uov {

// A pinhole camera; it looks along +z, x to the right and y down.
struct PinholeView {
  double world_to_camera[12];  // the upper three rows
  double fx, fy, cx, cy;       // pixels
  int64_t height, width;
  int64_t cut;  // pixels along the image's border that see nothing
};

// The depth image of a view. A point is seen where |depth - z| <= tolerance * depth.
template <typename T>
struct DepthImage {
  const T* values;   // [height, width], null for a view without: there z > 0 is seen
  double units;      // of the values per metre
  double missing;    // the value, beside 0, where nothing was measured
  double tolerance;  // a share of the depth, below 1
};

struct SeenPoints {
  std::vector<int32_t> point, row, column;  // in the order of the points
};

// As OpenScene's projection: float64, pixels rounded half to even. `points` is [n, 3].
template <typename T>
SeenPoints seen_points(const float* points, int64_t n, const PinholeView& view,
                       const DepthImage<T>& depth, const ParallelFor& parallel_for);

extern template SeenPoints seen_points(const float*, int64_t, const PinholeView&,
                                       const DepthImage<uint16_t>&, const ParallelFor&);
extern template SeenPoints seen_points(const float*, int64_t, const PinholeView&,
                                       const DepthImage<float>&, const ParallelFor&);

}  // namespace uov
