// Whether the arguments and results of an op fit together: one function for each, for the handlers
// of every device. They look at shapes and types alone, since what the buffers hold may be in
// another memory, and throw std::invalid_argument.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "core/gather_gemm_shape.h"
#include "core/plan_arrays.h"
#include "core/plan_limits.h"
#include "ffi/arguments.h"

namespace uov {

inline void require(bool condition, const char* expected) {
  if (!condition) throw std::invalid_argument(expected);
}

// Rows, channels and moves of rows are numbered by int32.
inline void require_numbered(std::initializer_list<int64_t> sizes) {
  for (int64_t size : sizes) {
    require(size <= INT32_MAX, "rows, channels and moves must be at most 2^31 - 1");
  }
}

// No kernel is larger than 15 x 15 x 15; kernels keep a number for each offset in shared memory.
inline constexpr int64_t kMostOffsets = 4096;

inline void require_offsets(int64_t kernel) {
  require(kernel <= kMostOffsets, "a map must have at most 4096 kernel offsets");
}

// Memory that an op needs for itself: its last result, where it needs any.
using Workspace = xla::ffi::Buffer<xla::ffi::U8, 1>;

inline void require_workspace(const char* op, const Workspace& workspace, int64_t bytes) {
  const auto given = static_cast<int64_t>(workspace.element_count());
  if (given < bytes) {
    throw std::invalid_argument(std::string(op) + ": the workspace has " + std::to_string(given) +
                                " bytes, expected " + std::to_string(bytes));
  }
}

// Products.

inline void require_bounds(const GatherGemmShape& shape) {
  require_offsets(shape.kernel);
  require_numbered({shape.rows_in, shape.rows_out, shape.channels_in, shape.channels_out});
}

inline GatherGemmShape checked_gather_gemm(xla::ffi::AnyBuffer x, xla::ffi::AnyBuffer w,
                                           Matrix32 map, xla::ffi::AnyBuffer y, WeightView view) {
  const auto xd = x.dimensions(), wd = w.dimensions(), md = map.dimensions(), yd = y.dimensions();
  require(xd.size() == 2 && wd.size() == 3 && yd.size() == 2,
          "gather_gemm expects x [N_in, C_in], w [K, C_in, C_out], map [K, N_out]");
  const GatherGemmShape shape{wd[0], xd[0], yd[0], xd[1], yd[1]};
  require(md[0] == shape.kernel && md[1] == shape.rows_out &&
              wd[view.transposed ? 2 : 1] == shape.channels_in &&
              wd[view.transposed ? 1 : 2] == shape.channels_out,
          "gather_gemm: x, w, map and y do not fit together");
  require(w.element_type() == x.element_type() && y.element_type() == x.element_type(),
          "gather_gemm: x, w and y must have the same dtype");
  require(!view.mirrored || shape.rows_in == shape.rows_out,
          "gather_gemm: a mirrored map must have as many input as output rows");
  require_bounds(shape);
  return shape;
}

// `shortcut` may be anything where there is none.
inline GatherGemmShape checked_gather_gemm_affine(xla::ffi::AnyBuffer x, xla::ffi::AnyBuffer w,
                                                  Matrix32 map, Channels mean, Channels scale,
                                                  Channels bias, xla::ffi::AnyBuffer shortcut,
                                                  xla::ffi::AnyBuffer y, bool has_shortcut) {
  const GatherGemmShape shape = checked_gather_gemm(x, w, map, y, {});
  for (const Channels& vector : {mean, scale, bias}) {
    require(static_cast<int64_t>(vector.element_count()) == shape.channels_out,
            "gather_gemm_affine: mean, scale and bias must be [C_out]");
  }
  require(!has_shortcut || (shortcut.element_count() == y.element_count() &&
                            shortcut.element_type() == y.element_type()),
          "gather_gemm_affine: the shortcut must be like the result");
  return shape;
}

inline GatherGemmShape checked_gather_gemm_moments(xla::ffi::AnyBuffer x, xla::ffi::AnyBuffer w,
                                                   Matrix32 map, xla::ffi::AnyBuffer y,
                                                   Channels mean, Channels m2) {
  const GatherGemmShape shape = checked_gather_gemm(x, w, map, y, {});
  for (const Channels& vector : {mean, m2}) {
    require(static_cast<int64_t>(vector.element_count()) == shape.channels_out,
            "gather_gemm_moments: mean and m2 must be [C_out]");
  }
  return shape;
}

inline GatherGemmShape checked_gather_gemm_dw(xla::ffi::AnyBuffer x, xla::ffi::AnyBuffer dy,
                                              Matrix32 map, WeightGradient dw) {
  const auto xd = x.dimensions(), yd = dy.dimensions(), md = map.dimensions(), wd = dw.dimensions();
  require(xd.size() == 2 && yd.size() == 2,
          "gather_gemm_dw expects x [N_in, C_in], dy [N_out, C_out], map [K, N_out]");
  const GatherGemmShape shape{md[0], xd[0], yd[0], xd[1], yd[1]};
  require(md[1] == shape.rows_out && wd[0] == shape.kernel && wd[1] == shape.channels_in &&
              wd[2] == shape.channels_out && x.element_type() == dy.element_type(),
          "gather_gemm_dw: x, dy, map and dw do not fit together");
  require_bounds(shape);
  return shape;
}

// The sizes of the product whose gradients these are.
inline GatherGemmShape checked_gather_gemm_gradients(xla::ffi::AnyBuffer x, xla::ffi::AnyBuffer w,
                                                     xla::ffi::AnyBuffer dy, Matrix32 map,
                                                     Matrix32 back, xla::ffi::AnyBuffer dx,
                                                     WeightGradient dw, bool mirrored) {
  // dx is the product of dy with the transposed weights: its checks cover all but x, map and dw.
  const GatherGemmShape product = checked_gather_gemm(dy, w, back, dx, {true, mirrored});
  const GatherGemmShape shape{product.kernel, product.rows_out, product.rows_in,
                              product.channels_out, product.channels_in};
  const auto xd = x.dimensions(), md = map.dimensions(), wd = dw.dimensions();
  require(xd.size() == 2 && xd[0] == shape.rows_in && xd[1] == shape.channels_in &&
              md[0] == shape.kernel && md[1] == shape.rows_out && wd[0] == shape.kernel &&
              wd[1] == shape.channels_in && wd[2] == shape.channels_out &&
              x.element_type() == dy.element_type(),
          "gather_gemm_gradients: x, w, dy, map, back, dx and dw do not fit together");
  return shape;
}

// How products walk over a map [K, N]: its rows in an order where `kRowsOfMask` that follow each
// other have much the same neighbours, and every offset's pairs.
inline constexpr int64_t kRowsOfMask = 32;
inline constexpr int64_t kBitsOfMask = 32;

struct MapSize {
  int64_t kernel, rows;
};

inline void require_order(MapSize map, Index order, Matrix32 masks) {
  const auto md = masks.dimensions();
  require(static_cast<int64_t>(order.element_count()) == map.rows &&
              md[0] == (map.rows + kRowsOfMask - 1) / kRowsOfMask &&
              md[1] == (map.kernel + kBitsOfMask - 1) / kBitsOfMask,
          "a schedule needs order [N] and masks [ceil(N / 32), ceil(K / 32)] for a map [K, N]");
}

inline void require_pairs(MapSize map, Matrix32 pair_rows, Index pair_counts) {
  const auto pd = pair_rows.dimensions();
  require(pd[0] == map.kernel && pd[1] == map.rows &&
              static_cast<int64_t>(pair_counts.element_count()) == map.kernel,
          "a schedule needs pair_rows [K, N] and pair_counts [K] for a map [K, N]");
}

inline MapSize checked_schedule(Matrix32 map, Index order, Matrix32 masks, Matrix32 pair_rows,
                                Index pair_counts) {
  const MapSize size{map.dimensions()[0], map.dimensions()[1]};
  require_offsets(size.kernel);
  require_numbered({size.rows});
  require_order(size, order, masks);
  require_pairs(size, pair_rows, pair_counts);
  return size;
}

// Rows.

struct RowMoves {
  int64_t rows_in, rows_out, channels;
  int64_t moves;
};

inline RowMoves row_moves(xla::ffi::AnyBuffer x, xla::ffi::AnyBuffer y, int64_t moves) {
  const auto xd = x.dimensions(), yd = y.dimensions();
  require(
      xd.size() == 2 && yd.size() == 2 && xd[1] == yd[1] && x.element_type() == y.element_type(),
      "rows are moved between two [rows, channels] arrays of one dtype");
  require_numbered({xd[0], yd[0], xd[1], moves});
  return {xd[0], yd[0], xd[1], moves};
}

inline RowMoves checked_gather_rows(xla::ffi::AnyBuffer x, Index index, xla::ffi::AnyBuffer y) {
  const RowMoves size = row_moves(x, y, index.dimensions()[0]);
  require(size.moves == size.rows_out, "gather_rows: index and result must have the same length");
  return size;
}

// `source` may be anything where `identity` says that source[m] = m.
inline RowMoves checked_gather_scatter_rows(xla::ffi::AnyBuffer x, Index source, Index target,
                                            xla::ffi::AnyBuffer y, bool identity) {
  const RowMoves size = row_moves(x, y, target.dimensions()[0]);
  require((identity ? size.rows_in : source.dimensions()[0]) == size.moves,
          "gather_scatter_rows: source and target must have the same length");
  return size;
}

struct RowsSize {
  int64_t rows, channels;
};

inline RowsSize checked_unit_rows(Rows32 x, Rows32 y, Channels inverse) {
  const auto size = x.dimensions();
  require(y.dimensions() == size && inverse.dimensions()[0] == size[0],
          "unit_rows: x, y and the inverse lengths do not fit together");
  require_numbered({size[0], size[1]});
  return {size[0], size[1]};
}

inline RowsSize checked_unit_rows_gradient(Rows32 dy, Rows32 y, Channels inverse, Rows32 dx) {
  const auto size = y.dimensions();
  require(dy.dimensions() == size && dx.dimensions() == size && inverse.dimensions()[0] == size[0],
          "unit_rows: dy, y, dx and the inverse lengths do not fit together");
  require_numbered({size[0], size[1]});
  return {size[0], size[1]};
}

// Norms.

inline RowsSize norm_size(xla::ffi::AnyBuffer x) {
  const auto size = x.dimensions();
  require(size.size() == 2, "norms take rows [N, C]");
  require_numbered({size[0], size[1]});
  return {size[0], size[1]};
}

inline void require_like(xla::ffi::AnyBuffer x, xla::ffi::AnyBuffer other) {
  require(other.dimensions() == x.dimensions() && other.element_type() == x.element_type(),
          "the rows [N, C] of a norm must have one shape and one dtype");
}

inline void require_channels(RowsSize size, const Channels& vector) {
  require(static_cast<int64_t>(vector.element_count()) == size.channels,
          "the vectors of a norm must be [C] for rows [N, C]");
}

inline RowsSize checked_column_moments(xla::ffi::AnyBuffer x, Channels mean, Channels m2) {
  const RowsSize size = norm_size(x);
  for (const Channels& vector : {mean, m2}) require_channels(size, vector);
  return size;
}

// Without a shortcut, x stands in its place.
inline RowsSize checked_affine_rows(xla::ffi::AnyBuffer x, Channels mean, Channels scale,
                                    Channels bias, xla::ffi::AnyBuffer shortcut,
                                    xla::ffi::AnyBuffer y) {
  const RowsSize size = norm_size(x);
  for (const Channels& vector : {mean, scale, bias}) require_channels(size, vector);
  for (const auto& rows : {y, shortcut}) require_like(x, rows);
  return size;
}

// Without a ReLU, dy stands in the place of y: here and below.
inline RowsSize checked_affine_gradient_sums(xla::ffi::AnyBuffer dy, xla::ffi::AnyBuffer y,
                                             xla::ffi::AnyBuffer x, Channels mean, Channels sum,
                                             Channels sum_deviation) {
  const RowsSize size = norm_size(x);
  for (const Channels& vector : {mean, sum, sum_deviation}) require_channels(size, vector);
  for (const auto& rows : {dy, y}) require_like(x, rows);
  return size;
}

// `dshortcut` may be anything where there is no shortcut.
inline RowsSize checked_affine_gradient_rows(xla::ffi::AnyBuffer dy, xla::ffi::AnyBuffer y,
                                             xla::ffi::AnyBuffer x, Channels mean, Channels offset,
                                             Channels slope, Channels scale, xla::ffi::AnyBuffer dx,
                                             xla::ffi::AnyBuffer dshortcut, bool has_shortcut) {
  const RowsSize size = norm_size(x);
  for (const Channels& vector : {mean, offset, slope, scale}) require_channels(size, vector);
  for (const auto& rows : {dy, y, dx}) require_like(x, rows);
  if (has_shortcut) require_like(x, dshortcut);
  return size;
}

// Returns how many numbers there are.
inline int64_t checked_moving_average(xla::ffi::AnyBuffer old, xla::ffi::AnyBuffer sample,
                                      xla::ffi::AnyBuffer next) {
  const auto count = static_cast<int64_t>(old.element_count());
  for (const auto& buffer : {old, sample, next}) {
    require(buffer.element_type() == xla::ffi::F32 &&
                static_cast<int64_t>(buffer.element_count()) == count,
            "moving_average: old, sample and next must be float32 of one shape");
  }
  return count;
}

// Coordinates.

inline void require_coordinates(Matrix32 coords) {
  require(coords.dimensions()[1] == 4, "coords must be int32 [N, 4]");
  require_numbered({coords.dimensions()[0]});
}

struct SubmanifoldMap {
  int64_t rows;
  int kernel;
  int32_t tensor_stride, dilation;
};

// Looks at what came as int64 before it is narrowed.
inline SubmanifoldMap checked_submanifold_map(Matrix32 coords, Matrix32 map, int64_t kernel,
                                              int64_t tensor_stride, int64_t dilation) {
  check_submanifold_kernel(kernel, dilation);
  check_tensor_stride(tensor_stride);
  const auto md = map.dimensions();
  require(md[0] == kernel * kernel * kernel && md[1] == coords.dimensions()[0],
          "submanifold_map: coords [N, 4] need a map [kernel^3, N]");
  require_coordinates(coords);
  return {md[1], static_cast<int>(kernel), static_cast<int32_t>(tensor_stride),
          static_cast<int32_t>(dilation)};
}

struct PlanResults {
  PlanArrays arrays;
  int32_t* counts;  // [levels]
  size_t taken;     // results, in their order: what an op has beyond a plan follows
};

// The results of `plan`: same per level, first, (down, transpose, coords) per step, counts.
inline PlanResults checked_plan(Matrix32 coords, xla::ffi::RemainingRets results, int64_t levels,
                                bool first_kernel_5) {
  size_t next = 0;
  auto take = [&](int64_t rows, int64_t columns) {
    auto buffer = results.get<Matrix32>(next++);
    require(buffer.has_value() && (*buffer)->dimensions()[0] == rows &&
                (columns < 0 || (*buffer)->dimensions()[1] == columns),
            "plan: a result is missing or not an int32 matrix of the right shape");
    return *buffer;
  };
  require(levels >= 1, "plan: there must be a level");
  PlanArrays arrays;
  auto& sizes = arrays.capacities;
  for (int64_t l = 0; l < levels; ++l) {
    auto same = take(27, -1);
    sizes.push_back(same->dimensions()[1]);
    arrays.same.push_back(same->typed_data());
  }
  if (first_kernel_5) arrays.first = take(125, sizes[0])->typed_data();
  for (int64_t l = 0; l + 1 < levels; ++l) {
    arrays.down.push_back(take(8, sizes[l + 1])->typed_data());
    arrays.down_transpose.push_back(take(8, sizes[l])->typed_data());
    arrays.coords.push_back(take(sizes[l + 1], 4)->typed_data());
  }
  auto counts = results.get<Index>(next++);
  require(counts.has_value() && (*counts)->dimensions()[0] == levels,
          "plan: the last result must be int32 [levels]");
  require_coordinates(coords);
  int64_t all = 0;
  for (const int64_t rows : sizes) all += rows;
  require_numbered({all});
  return {arrays, (*counts)->typed_data(), next};
}

// Their table has twice as many slots, numbered by int32.
inline constexpr int64_t kMostPoints = int64_t{1} << 29;

// Returns how many points there is room for.
inline int64_t checked_voxelize(Rows32 points, Matrix32 coords, Index first, Index inverse,
                                std::initializer_list<float> sizes) {
  const int64_t rows = points.dimensions()[0];
  require(rows <= kMostPoints, "voxelize: there may be 2^29 points");
  for (const float size : sizes) {
    require(size > 0 && std::isfinite(size), "voxelize: the sizes of a voxel must be positive");
  }
  require(points.dimensions()[1] == 3, "voxelize: points must be float32 [N, 3]");
  require(coords.dimensions()[0] == rows && coords.dimensions()[1] == 4 &&
              first.dimensions()[0] == rows && inverse.dimensions()[0] == rows,
          "voxelize: points [N, 3] need coords [N, 4], first [N] and inverse [N]");
  return rows;
}

}  // namespace uov
