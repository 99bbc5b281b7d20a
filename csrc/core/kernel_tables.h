// The tables of kernels.h, compiled once per instruction set.
//
// Included by kernels_*.cpp, which define UOV_LANES, UOV_PRODUCT_ROWS, UOV_OUTER_ROWS,
// UOV_TILE_VECTORS and UOV_KERNEL_NAMESPACE and are compiled with that instruction set's flags.
#pragma once

#include "core/microkernel.h"
#include "core/norm_rows.h"
#include "core/view_rows.h"

namespace uov {
namespace UOV_KERNEL_NAMESPACE {

// By name: many of the functions have one type, so that a list could swap them unnoticed.
template <typename T>
constexpr RowKernels<T> row_table(decltype(RowKernels<T>::Copy::factor) copy_factor) {
  RowKernels<T> table{};
  table.tile_columns = kTileColumns;
  table.channels_per_word = kChannelsPerWord;
  table.copy.rows = copy_rows;
  table.copy.factor = copy_factor;
  table.pack.as_stored = pack;
  table.pack.transposed = pack_transposed;
  table.multiply.rows = product;
  table.multiply.outer = outer;
  table.sum.rows = sum_rows;
  table.sum.round = round_rows;
  table.norm.add_rows = add_rows;
  table.norm.add_squares = add_squares;
  table.norm.affine = affine_rows;
  table.norm.affine_of_sums = affine_rows;
  table.norm.add_gradients = add_gradients;
  table.norm.gradient = gradient_rows;
  return table;
}

#ifdef UOV_BFLOAT16_PAIRS
constexpr RowKernels<bfloat16> bfloat16_rows = row_table<bfloat16>(copy_factor);
#else
constexpr RowKernels<float> float_rows = row_table<float>(copy_factor);
constexpr RowKernels<bfloat16> bfloat16_rows = row_table<bfloat16>(nullptr);

constexpr Kernels::View view_table() {
  Kernels::View table{};
  table.widen_halves = widen_halves;
  table.add_cells = add_cells;
  table.add_mixtures = add_mixtures;
  return table;
}
#endif

}  // namespace UOV_KERNEL_NAMESPACE
}  // namespace uov
