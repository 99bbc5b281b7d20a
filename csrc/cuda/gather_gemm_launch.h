// What gather_gemm's kernels are given, and who launches those of a precision.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda/norm_rows.h"

namespace uov::cuda {

// What becomes of the sums of whole rows, beside their being written.
enum class Epilogue { kNone, kAffine, kMoments };

template <typename T>
struct GatherGemm {
  Global<const T> x, w;
  Global<const int32_t> map, order, masks;
  Global<T> y;
  Global<float> partials;  // [splits, rows_out, channels_out], of more than one split
  Global<int32_t> fault;
  int32_t rows_in, rows_out;
  int kernel, channels_in, channels_out;
  int splits;
  int row_bytes, weight_bytes;  // of copy_chunk
  bool scheduled, mirrored;
  bool in_pairs;      // sums may be written two at a time
  Epilogue epilogue;  // moments: of one split alone
  Affine<T> affine;
  // Of every 32 rows, in the schedule's order: means [channels_out] and sums of squared deviations,
  // and of how many valid rows.
  Global<float> moments;
  Global<int32_t> moment_rows;
  Global<const int32_t> count;
};

// With a tile of kGatherTiles that the precision has. Each stands in a file of its own, since there
// are as many kernels as tiles.
void gather_gemm_float32(Stream stream, const GatherGemm<float>& g, int tile, bool transposed);
void gather_gemm_tf32(Stream stream, const GatherGemm<float>& g, int tile, bool transposed);
void gather_gemm_bfloat16(Stream stream, const GatherGemm<float>& g, int tile, bool transposed);
void gather_gemm_bfloat16(Stream stream, const GatherGemm<bfloat16>& g, int tile, bool transposed);

}  // namespace uov::cuda
