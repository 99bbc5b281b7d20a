// What becomes of a warp's sums of whole rows before they are written, and what is taken of them:
// norms behind a product.
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "cuda/gather_gemm_launch.h"
#include "cuda/norm_rows.h"
#include "cuda/numbers.h"
#include "cuda/product_rows.h"
#include "cuda/tiles.h"

namespace uov::cuda {

// The affine map of g, in place. `rows`: of the warp, -1 past the last; the warp's columns are
// counted from `first_column`.
//
// Column by column, so that what belongs to columns is in a few registers only; nothing is written
// meanwhile, so that reads of the shortcut may all be under way.
template <typename Product, typename T>
UOV_DEVICE void apply_affine(Product& product, const GatherGemm<T>& g, Shared<const int32_t> rows,
                             int first_column) {
  constexpr int kRows = Product::kRowsOfThread;
  const int64_t valid = valid_rows(g.affine.count, g.rows_out);
  int32_t row[kRows];
  UOV_UNROLL
  for (int r = 0; r < kRows; ++r) {
    row[r] = rows[Product::row_of(r)];
    if (row[r] >= valid) row[r] = -1;
  }
  product.change_columns([&](int j, auto& sums) {
    constexpr int N = sizeof(sums[0]) / sizeof(float);
    const int column = first_column + j, there = g.channels_out - column;
    if (there <= 0) return;
    float mean[N], scale[N], bias[N];
    read_numbers(g.affine.mean, column, there, g.in_pairs, mean);
    read_numbers(g.affine.scale, column, there, g.in_pairs, scale);
    read_numbers(g.affine.bias, column, there, g.in_pairs, bias);
    UOV_UNROLL
    for (int r = 0; r < kRows; ++r) {
      float added[N] = {};
      if (g.affine.has_shortcut && row[r] >= 0) {
        const int64_t at = static_cast<int64_t>(row[r]) * g.channels_out + column;
        read_numbers(g.affine.shortcut, at, there, g.in_pairs, added);
      }
      UOV_UNROLL
      for (int k = 0; k < N; ++k) {
        const float y = applied(g.affine, sums[r][k], mean[k], scale[k], bias[k], added[k]);
        sums[r][k] = row[r] < 0 ? 0.0f : y;
      }
    }
  });
}

// The sum over the lanes that have the same columns, to each of them: the same bits, since two add
// up what they have in either order.
template <typename Product>
UOV_DEVICE float over_rows(float sum) {
  UOV_UNROLL
  for (int lanes = Product::kSameColumns; lanes < kWarp; lanes *= 2) {
    sum += __shfl_xor_sync(~0u, sum, lanes);
  }
  return sum;
}

// Moments of the warp's valid rows, as they will be written, to g.moments[mask]; called by all of a
// warp. `first`: whether the warp has the first columns.
template <typename Product, typename T>
UOV_DEVICE void take_moments(Product& product, const GatherGemm<T>& g, Shared<const int32_t> rows,
                             int64_t mask, int first_column, bool first) {
  if (mask * kWarpRows >= g.rows_out) return;
  constexpr int kRows = Product::kRowsOfThread;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int32_t own = rows[lane];
  const uint32_t there = __ballot_sync(~0u, own >= 0 && own < valid_rows(g.count, g.rows_out));
  const int number = __popc(there);
  if (first && lane == 0) g.moment_rows[mask] = number;
  const float divisor = static_cast<float>(number > 0 ? number : 1);
  product.change_columns([&](int j, const auto& sums) {
    constexpr int N = sizeof(sums[0]) / sizeof(float);
    const int column = first_column + j;
    UOV_UNROLL
    for (int k = 0; k < N; ++k) {
      float value[kRows], sum = 0.0f, deviations = 0.0f;
      UOV_UNROLL
      for (int r = 0; r < kRows; ++r) {
        value[r] = widened(narrowed<T>(sums[r][k]));
        if ((there >> Product::row_of(r) & 1) != 0) sum += value[r];
      }
      const float mean = over_rows<Product>(sum) / divisor;
      UOV_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const float deviation = value[r] - mean;
        if ((there >> Product::row_of(r) & 1) != 0) deviations += deviation * deviation;
      }
      deviations = over_rows<Product>(deviations);
      if (lane < Product::kSameColumns && column + k < g.channels_out) {
        const int64_t at = 2 * mask * g.channels_out + column + k;
        g.moments[at] = mean;
        g.moments[at + g.channels_out] = deviations;
      }
    }
  });
}

}  // namespace uov::cuda
