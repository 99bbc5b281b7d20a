// The weight gradient of gather_gemm on the GPU.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "core/gather_gemm_shape.h"
#include "cuda/launch.h"
#include "cuda/schedule.h"
#include "cuda/tiles.h"

namespace uov::cuda {

// dw[k] = sum_n x[map[k, n]]^T dy[n], [K, channels_in, channels_out] in float32, summed over pairs
// in a fixed order: the same bits for any tile and order of blocks. The pairs are of the map, or
// empty. For precision and fault see gather_gemm.
template <typename T>
void gather_gemm_dw(Stream stream, const GatherGemmShape& shape, Precision precision, const T* x,
                    const T* dy, const int32_t* map, const PairRows& pairs, float* dw,
                    void* workspace, int32_t* fault);

// Bytes of its workspace, by shape alone.
int64_t gather_gemm_dw_workspace(const GatherGemmShape& shape);

// As use_gather_tile, of kGradientTiles.
void use_gradient_tile(int tile);

}  // namespace uov::cuda
