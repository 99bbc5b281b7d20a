// gather_gemm: which kernel, how many blocks, and the join of what they share.
#include <algorithm>
#include <atomic>
#include <type_traits>

#include "core/parallel.h"
#include "cuda/device.h"
#include "cuda/gather_gemm.h"
#include "cuda/gather_gemm_launch.h"
#include "cuda/numbers.h"
#include "cuda/product_rows.h"

namespace uov::cuda {
namespace {

constexpr int kJoinThreads = 256;

// y[i] = the sum of what the splits have, in their order. Bound by its bytes, 4 * splits + those of
// y a number.
template <typename T>
UOV_KERNEL(kJoinThreads)
join_splits_kernel(Global<const float> partials, Global<T> y, int64_t numbers, int splits) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kJoinThreads + threadIdx.x;
  if (i >= numbers) return;
  float sum = 0.0f;
  for (int s = 0; s < splits; ++s) sum += partials[s * numbers + i];
  y[i] = narrowed<T>(sum);
}

// Products of few rows have few tiles. Their offsets are shared out among several blocks each then,
// so that there are two for each processor of an H100, but not to fewer steps than pay for the
// join.
int splits_of(const GatherGemmShape& shape) {
  constexpr int64_t kTileSide = 64, kBlocks = 2 * 132, kMost = 8, kSteps = 16;
  const int64_t tiles =
      ceil_div(shape.rows_out, kTileSide) * ceil_div(shape.channels_out, kTileSide);
  const int64_t steps = shape.kernel * ceil_div(shape.channels_in, kDepth);
  const int64_t most = std::min({kMost, shape.kernel, steps / kSteps});
  return static_cast<int>(
      std::max<int64_t>(1, std::min(most, kBlocks / std::max<int64_t>(1, tiles))));
}

std::atomic<int> tile_in_use{-1};

int tile_of(const GatherGemmShape& shape, Precision precision) {
  const int wanted = tile_in_use;
  if (wanted >= 0 && wanted < kGatherTileCount && tile_fits(kGatherTiles[wanted], precision)) {
    return wanted;
  }
  return chosen_tile(kGatherChoices, precision, architecture(), shape.rows_out, shape.channels_in,
                     shape.channels_out);
}

}  // namespace

void use_gather_tile(int tile) { tile_in_use = tile; }

int64_t gather_gemm_workspace(const GatherGemmShape& shape) {
  const int64_t splits = splits_of(shape);
  if (splits == 1) return 0;
  return splits * shape.rows_out * shape.channels_out * static_cast<int64_t>(sizeof(float));
}

template <typename T>
void gather_gemm(Stream stream, const GatherGemmShape& shape, WeightView view, Precision precision,
                 const T* x, const T* w, const int32_t* map, const RowOrder& order, T* y,
                 void* workspace, int32_t* fault) {
  const int64_t numbers = shape.rows_out * shape.channels_out;
  if (numbers == 0) return;
  if (sizeof(T) == 2) precision = Precision::kBfloat16;
  const int splits = splits_of(shape);
  auto* const partials = splits == 1 ? nullptr : static_cast<float*>(workspace);
  GatherGemm<T> g;
  g.x = global(x, shape.rows_in * shape.channels_in);
  g.w = global(w, shape.kernel * shape.channels_in * shape.channels_out);
  g.map = global(map, shape.kernel * shape.rows_out);
  g.order = global(order.rows, shape.rows_out);
  g.masks = global(order.masks,
                   ceil_div(shape.rows_out, kWarpRows) * ceil_div(shape.kernel, kBitsOfWord));
  g.y = global(y, numbers);
  g.partials = global(partials, splits == 1 ? 0 : splits * numbers);
  g.fault = global(fault, kFaultNumbers);
  g.rows_in = static_cast<int32_t>(shape.rows_in);
  g.rows_out = static_cast<int32_t>(shape.rows_out);
  g.kernel = static_cast<int>(shape.kernel);
  g.channels_in = static_cast<int>(shape.channels_in);
  g.channels_out = static_cast<int>(shape.channels_out);
  g.splits = splits;
  g.row_bytes = bytes_at_once(x, shape.channels_in);
  g.weight_bytes = bytes_at_once(w, view.transposed ? shape.channels_in : shape.channels_out);
  g.scheduled = order.rows != nullptr;
  g.mirrored = view.mirrored;
  g.in_pairs = fits_pairs(y, shape.channels_out) && fits_pairs(partials, shape.channels_out);

  const int tile = tile_of(shape, precision);
  if constexpr (std::is_same_v<T, float>) {
    if (precision == Precision::kFloat32) {
      gather_gemm_float32(stream, g, tile, view.transposed);
    } else if (precision == Precision::kTf32) {
      gather_gemm_tf32(stream, g, tile, view.transposed);
    } else {
      gather_gemm_bfloat16(stream, g, tile, view.transposed);
    }
  } else {
    gather_gemm_bfloat16(stream, g, tile, view.transposed);
  }
  if (splits > 1) {
    launch(stream, "gather_gemm join", join_splits_kernel<T>,
           dim3(static_cast<unsigned>(ceil_div(numbers, kJoinThreads))), kJoinThreads, 0,
           g.partials, g.y, numbers, splits);
  }
}

template void gather_gemm(Stream, const GatherGemmShape&, WeightView, Precision, const float*,
                          const float*, const int32_t*, const RowOrder&, float*, void*, int32_t*);
template void gather_gemm(Stream, const GatherGemmShape&, WeightView, Precision, const bfloat16*,
                          const bfloat16*, const int32_t*, const RowOrder&, bfloat16*, void*,
                          int32_t*);

}  // namespace uov::cuda
