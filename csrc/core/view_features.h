// Features of one image added to the sums of the points that it sees.
//
// Features are float32 or half, whose bits are uint16_t. The rows of `sums` that a call adds to
// are different ones. Throws std::invalid_argument for features that are not finite.
#pragma once

#include <cstdint>
#include <vector>

#include "core/parallel.h"

namespace uov {

// The cells of a grid under each of n places: one, or four with weights.
struct Taps {
  int64_t per_place = 1;
  std::vector<int32_t> cell;  // [n, per_place]
  std::vector<float> weight;  // the same; empty where there is one cell
  int64_t places() const { return static_cast<int64_t>(cell.size()) / per_place; }
};

struct GridSize {
  int64_t height, width;
};

// The cell that an image's pixel falls into: row * height of the grid / height of the image.
Taps nearest_cells(GridSize grid, GridSize image, const int32_t* row, const int32_t* column,
                   int64_t n);

// Bilinear with half-pixel centres, as PyTorch's `interpolate` with align_corners=False.
Taps bilinear_cells(GridSize grid, GridSize image, const int32_t* row, const int32_t* column,
                    int64_t n);

// sums[target[i]] += the mixture of grid cells at place i; `planes` is [channels, cells].
template <typename T>
void add_planes(const T* planes, int64_t channels, int64_t cells, const Taps& taps,
                const int32_t* target, float* sums, const ParallelFor& parallel_for);

// sums[target[i]] += table[index[i]], i < n; `table` is [rows, channels].
template <typename T>
void add_rows(const T* table, int64_t rows, int64_t channels, const int32_t* index,
              const int32_t* target, int64_t n, float* sums, const ParallelFor& parallel_for);

}  // namespace uov
