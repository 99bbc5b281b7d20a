// The tables of kernels.h, compiled once per instruction set.
//
// Included by kernels_*.cpp, which define UOV_LANES, UOV_PRODUCT_ROWS, UOV_OUTER_ROWS,
// UOV_TILE_VECTORS and UOV_KERNEL_NAMESPACE and are compiled with that instruction set's flags.
#pragma once

#include "core/microkernel.h"
#include "core/norm_rows.h"

namespace uov {
namespace UOV_KERNEL_NAMESPACE {

#ifdef UOV_BFLOAT16_PAIRS
constexpr auto copy_bfloat16_factor = copy_factor;
#else
constexpr auto copy_bfloat16_factor = copy_rows<bfloat16>;

const RowKernels<float> float_rows = {kTileColumns, kChannelsPerWord, copy_rows,     copy_rows,
                                      pack,         pack_transposed,  product,       outer,
                                      sum_rows,     add_rows,         add_squares,   affine_rows,
                                      affine_rows,  add_gradients,    gradient_rows, round_rows};
#endif

const RowKernels<bfloat16> bfloat16_rows = {
    kTileColumns, kChannelsPerWord, copy_rows,     copy_bfloat16_factor,
    pack,         pack_transposed,  product,       outer,
    sum_rows,     add_rows,         add_squares,   affine_rows,
    affine_rows,  add_gradients,    gradient_rows, round_rows};

}  // namespace UOV_KERNEL_NAMESPACE
}  // namespace uov
