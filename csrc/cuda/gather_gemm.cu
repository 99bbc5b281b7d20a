// gather_gemm: which kernel, how many blocks, and the join of what they share.
#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <type_traits>

#include "core/parallel.h"
#include "cuda/device.h"
#include "cuda/gather_gemm.h"
#include "cuda/gather_gemm_launch.h"
#include "cuda/norm_rows.h"
#include "cuda/numbers.h"
#include "cuda/product_rows.h"
#include "cuda/workspace.h"

namespace uov::cuda {
namespace {

constexpr int kJoinThreads = 256;

// y[i] = the sum of what the splits have, in their order, or what becomes of it. Bound by its
// bytes, 4 * splits + those of y a number.
template <typename T>
UOV_KERNEL(kJoinThreads)
join_splits_kernel(GatherGemm<T> g) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kJoinThreads + threadIdx.x;
  const int64_t numbers = static_cast<int64_t>(g.rows_out) * g.channels_out;
  if (i >= numbers) return;
  float sum = 0.0f;
  for (int s = 0; s < g.splits; ++s) sum += g.partials[s * numbers + i];
  if (g.epilogue == Epilogue::kAffine) {
    const Affine<T>& affine = g.affine;
    const int64_t column = i % g.channels_out;
    if (i / g.channels_out < valid_rows(affine.count, g.rows_out)) {
      const float added = affine.has_shortcut ? widened(affine.shortcut[i]) : 0.0f;
      sum = applied(affine, sum, affine.mean[column], affine.scale[column], affine.bias[column],
                    added);
    } else {
      sum = 0.0f;
    }
  }
  g.y[i] = narrowed<T>(sum);
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

template <typename T>
struct Operands {
  const T *x, *w;
  const int32_t* map;
  const RowOrder& order;
  T* y;
  float* partials;
  int32_t* fault;
};

template <typename T>
GatherGemm<T> product_of(const GatherGemmShape& shape, WeightView view, const Operands<T>& o) {
  const int64_t numbers = shape.rows_out * shape.channels_out;
  GatherGemm<T> g;
  g.splits = splits_of(shape);
  g.x = global(o.x, shape.rows_in * shape.channels_in);
  g.w = global(o.w, shape.kernel * shape.channels_in * shape.channels_out);
  g.map = global(o.map, shape.kernel * shape.rows_out);
  g.order = global(o.order.rows, shape.rows_out);
  g.masks = global(o.order.masks,
                   ceil_div(shape.rows_out, kWarpRows) * ceil_div(shape.kernel, kBitsOfWord));
  g.y = global(o.y, numbers);
  float* const partials = g.splits == 1 ? nullptr : o.partials;
  g.partials = global(partials, g.splits == 1 ? 0 : g.splits * numbers);
  g.fault = global(o.fault, kFaultNumbers);
  g.rows_in = static_cast<int32_t>(shape.rows_in);
  g.rows_out = static_cast<int32_t>(shape.rows_out);
  g.kernel = static_cast<int>(shape.kernel);
  g.channels_in = static_cast<int>(shape.channels_in);
  g.channels_out = static_cast<int>(shape.channels_out);
  g.row_bytes = bytes_at_once(o.x, shape.channels_in);
  g.weight_bytes = bytes_at_once(o.w, view.transposed ? shape.channels_in : shape.channels_out);
  g.scheduled = o.order.rows != nullptr;
  g.mirrored = view.mirrored;
  g.in_pairs = fits_pairs(o.y, shape.channels_out) && fits_pairs(partials, shape.channels_out);
  g.epilogue = Epilogue::kNone;
  return g;
}

template <typename T>
void multiply(Stream stream, const GatherGemmShape& shape, bool transposed, Precision precision,
              const GatherGemm<T>& g) {
  if (sizeof(T) == 2) precision = Precision::kBfloat16;
  const int tile = tile_of(shape, precision);
  if constexpr (std::is_same_v<T, float>) {
    if (precision == Precision::kFloat32) {
      gather_gemm_float32(stream, g, tile, transposed);
    } else if (precision == Precision::kTf32) {
      gather_gemm_tf32(stream, g, tile, transposed);
    } else {
      gather_gemm_bfloat16(stream, g, tile, transposed);
    }
  } else {
    gather_gemm_bfloat16(stream, g, tile, transposed);
  }
  if (g.splits > 1) {
    const int64_t numbers = shape.rows_out * shape.channels_out;
    launch(stream, "gather_gemm join", join_splits_kernel<T>,
           dim3(static_cast<unsigned>(ceil_div(numbers, kJoinThreads))), kJoinThreads, 0, g);
  }
}

// Where moments lie until they are joined. Rows whose offsets are shared out are whole only when
// the product is done: their moments are taken of y.
struct MomentsWorkspace {
  MomentsWorkspace(const GatherGemmShape& shape, void* memory) {
    Workspace workspace(memory);
    of_y = shape.rows_out * shape.channels_out == 0 || splits_of(shape) > 1;
    masks = ceil_div(shape.rows_out, kWarpRows);
    if (of_y) {
      product = workspace.take<uint8_t>(gather_gemm_workspace(shape));
      sums = workspace.take<uint8_t>(column_sums_workspace(shape.rows_out, shape.channels_out));
    } else {
      parts = workspace.take<float>(masks * 2 * shape.channels_out);
      rows = workspace.take<int32_t>(masks);
      sums = workspace.take<uint8_t>(join_moments_workspace(masks, shape.channels_out));
    }
    bytes = workspace.bytes();
  }
  bool of_y;
  int64_t masks, bytes;
  uint8_t *product = nullptr, *sums;
  float* parts = nullptr;
  int32_t* rows = nullptr;
};

}  // namespace

void use_gather_tile(int tile) { tile_in_use = tile; }

int64_t gather_gemm_workspace(const GatherGemmShape& shape) {
  const int64_t splits = splits_of(shape);
  if (splits == 1) return 0;
  return splits * shape.rows_out * shape.channels_out * static_cast<int64_t>(sizeof(float));
}

template <typename T>
void gather_gemm(Stream stream, const GatherGemmShape& shape, WeightView view, Precision precision,
                 const T* x, const T* w, const int32_t* map, const RowOrder& order,
                 const RowAffine<T>* after, T* y, void* workspace, int32_t* fault) {
  if (shape.rows_out * shape.channels_out == 0) return;
  GatherGemm<T> g =
      product_of<T>(shape, view, {x, w, map, order, y, static_cast<float*>(workspace), fault});
  if (after != nullptr) {
    if (view.transposed) throw std::invalid_argument("nothing follows a transposed product");
    g.epilogue = Epilogue::kAffine;
    g.affine = affine_of(*after, shape.rows_out, shape.channels_out);
    g.in_pairs = g.in_pairs && fits_pairs(after->shortcut, shape.channels_out) &&
                 fits_pairs(after->mean, 2) && fits_pairs(after->scale, 2) &&
                 fits_pairs(after->bias, 2);
  }
  multiply(stream, shape, view.transposed, precision, g);
}

int64_t gather_gemm_moments_workspace(const GatherGemmShape& shape) {
  return MomentsWorkspace(shape, nullptr).bytes;
}

template <typename T>
void gather_gemm_moments(Stream stream, const GatherGemmShape& shape, Precision precision,
                         const T* x, const T* w, const int32_t* map, const RowOrder& order,
                         const int32_t* count, T* y, float* mean, float* m2, void* workspace,
                         int32_t* fault) {
  const MomentsWorkspace cut(shape, workspace);
  if (cut.of_y) {
    gather_gemm<T>(stream, shape, {}, precision, x, w, map, order, nullptr, y, cut.product, fault);
    column_moments(stream, y, shape.rows_out, shape.channels_out, count, mean, m2, cut.sums);
    return;
  }
  GatherGemm<T> g = product_of<T>(shape, {}, {x, w, map, order, y, nullptr, fault});
  g.epilogue = Epilogue::kMoments;
  g.moments = global(cut.parts, cut.masks * 2 * shape.channels_out);
  g.moment_rows = global(cut.rows, cut.masks);
  g.count = global(count, 1);
  multiply(stream, shape, false, precision, g);
  join_moments(stream, cut.parts, cut.rows, cut.masks, shape.channels_out, mean, m2, cut.sums);
}

#define UOV_PRODUCTS_OF(T)                                                                         \
  template void gather_gemm(Stream, const GatherGemmShape&, WeightView, Precision, const T*,       \
                            const T*, const int32_t*, const RowOrder&, const RowAffine<T>*, T*,    \
                            void*, int32_t*);                                                      \
  template void gather_gemm_moments(Stream, const GatherGemmShape&, Precision, const T*, const T*, \
                                    const int32_t*, const RowOrder&, const int32_t*, T*, float*,   \
                                    float*, void*, int32_t*);
UOV_PRODUCTS_OF(float)
UOV_PRODUCTS_OF(bfloat16)
#undef UOV_PRODUCTS_OF

}  // namespace uov::cuda
