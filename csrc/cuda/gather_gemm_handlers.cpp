// Schedules of neighbour maps, gather_gemm and its weight gradient as XLA custom calls on CUDA.
#include <cstdint>
#include <vector>

#include "cuda/fault_memory.h"
#include "cuda/gather_gemm.h"
#include "cuda/gather_gemm_dw.h"
#include "cuda/handlers.h"
#include "cuda/schedule.h"
#include "ffi/checks.h"

namespace ffi = xla::ffi;

namespace uov::cuda {
namespace {

Precision checked_precision(int64_t precision) {
  require(precision >= 0 && precision <= 2,
          "precision must be 0 (float32), 1 (TF32) or 2 (bfloat16)");
  return static_cast<Precision>(precision);
}

// Of the sizes [K, C_in, C_out, N_out, ...]; how many rows x has does not matter.
GatherGemmShape shape_of(const std::vector<int64_t>& sizes) {
  require(sizes.size() >= 4, "the sizes of a product are [K, C_in, C_out, N_out, ...]");
  return {sizes[0], sizes[3], sizes[3], sizes[1], sizes[2]};
}

// Of a schedule, or none.
RowOrder checked_order(const GatherGemmShape& shape, Index order, Matrix32 masks) {
  if (order.element_count() == 0) return {};
  require_order({shape.kernel, shape.rows_out}, order, masks);
  return {order.typed_data(), masks.typed_data()};
}

void schedule_on(Stream stream, Matrix32 map, ffi::Result<Index> order, ffi::Result<Matrix32> masks,
                 ffi::Result<Matrix32> pair_rows, ffi::Result<Index> pair_counts,
                 ffi::Result<Workspace> workspace) {
  const MapSize size = checked_schedule(map, *order, *masks, *pair_rows, *pair_counts);
  require_workspace("schedule", *workspace, schedule_workspace(size.kernel, size.rows));
  schedule(stream, map.typed_data(), size.kernel, size.rows, order->typed_data(),
           masks->typed_data(), pair_rows->typed_data(), pair_counts->typed_data(),
           workspace->typed_data(), fault_numbers());
}

void gather_gemm_on(Stream stream, ffi::AnyBuffer x, ffi::AnyBuffer w, Matrix32 map, Index order,
                    Matrix32 masks, ffi::Result<ffi::AnyBuffer> y, ffi::Result<Workspace> workspace,
                    bool transposed, bool mirrored, int64_t precision) {
  const WeightView view{transposed, mirrored};
  const GatherGemmShape shape = checked_gather_gemm(x, w, map, *y, view);
  const RowOrder rows = checked_order(shape, order, masks);
  require_workspace("gather_gemm", *workspace, gather_gemm_workspace(shape));
  with_type(x, [&](auto type) {
    using T = decltype(type);
    gather_gemm<T>(stream, shape, view, checked_precision(precision), data<T>(x), data<T>(w),
                   map.typed_data(), rows, nullptr, data<T>(*y), workspace->typed_data(),
                   fault_numbers());
  });
}

void gather_gemm_affine_on(Stream stream, ffi::AnyBuffer x, ffi::AnyBuffer w, Matrix32 map,
                           Index order, Matrix32 masks, Channels mean, Channels scale,
                           Channels bias, ffi::AnyBuffer shortcut, Count count,
                           ffi::Result<ffi::AnyBuffer> y, ffi::Result<Workspace> workspace,
                           bool has_shortcut, bool relu, int64_t precision) {
  const GatherGemmShape shape =
      checked_gather_gemm_affine(x, w, map, mean, scale, bias, shortcut, *y, has_shortcut);
  const RowOrder rows = checked_order(shape, order, masks);
  require_workspace("gather_gemm_affine", *workspace, gather_gemm_workspace(shape));
  with_type(x, [&](auto type) {
    using T = decltype(type);
    const RowAffine<T> after{mean.typed_data(),  scale.typed_data(),
                             bias.typed_data(),  has_shortcut ? data<T>(shortcut) : nullptr,
                             count.typed_data(), relu};
    gather_gemm<T>(stream, shape, {}, checked_precision(precision), data<T>(x), data<T>(w),
                   map.typed_data(), rows, &after, data<T>(*y), workspace->typed_data(),
                   fault_numbers());
  });
}

void gather_gemm_moments_on(Stream stream, ffi::AnyBuffer x, ffi::AnyBuffer w, Matrix32 map,
                            Index order, Matrix32 masks, Count count, ffi::Result<ffi::AnyBuffer> y,
                            ffi::Result<Channels> mean, ffi::Result<Channels> m2,
                            ffi::Result<Workspace> workspace, int64_t precision) {
  const GatherGemmShape shape = checked_gather_gemm_moments(x, w, map, *y, *mean, *m2);
  const RowOrder rows = checked_order(shape, order, masks);
  require_workspace("gather_gemm_moments", *workspace, gather_gemm_moments_workspace(shape));
  with_type(x, [&](auto type) {
    using T = decltype(type);
    gather_gemm_moments<T>(stream, shape, checked_precision(precision), data<T>(x), data<T>(w),
                           map.typed_data(), rows, count.typed_data(), data<T>(*y),
                           mean->typed_data(), m2->typed_data(), workspace->typed_data(),
                           fault_numbers());
  });
}

void gather_gemm_dw_on(Stream stream, ffi::AnyBuffer x, ffi::AnyBuffer dy, Matrix32 map,
                       Matrix32 pair_rows, Index pair_counts, ffi::Result<WeightGradient> dw,
                       ffi::Result<Workspace> workspace, int64_t precision) {
  const GatherGemmShape shape = checked_gather_gemm_dw(x, dy, map, *dw);
  PairRows pairs;
  if (pair_counts.element_count() > 0) {
    require_pairs({shape.kernel, shape.rows_out}, pair_rows, pair_counts);
    pairs = {pair_rows.typed_data(), pair_counts.typed_data()};
  }
  require_workspace("gather_gemm_dw", *workspace, gather_gemm_dw_workspace(shape));
  with_type(x, [&](auto type) {
    using T = decltype(type);
    gather_gemm_dw<T>(stream, shape, checked_precision(precision), data<T>(x), data<T>(dy),
                      map.typed_data(), pairs, dw->typed_data(), workspace->typed_data(),
                      fault_numbers());
  });
}

}  // namespace
}  // namespace uov::cuda

UOV_CUDA_HANDLER(schedule, uov::cuda::schedule_on,
                 .Arg<uov::Matrix32>()      // map [K, N]
                     .Ret<uov::Index>()     // order [N]
                     .Ret<uov::Matrix32>()  // masks [ceil(N / 32), ceil(K / 32)]
                     .Ret<uov::Matrix32>()  // pair_rows [K, N]
                     .Ret<uov::Index>()     // pair_counts [K]
                     .Ret<uov::Workspace>());

// [K, N]
UOV_CUDA_WORKSPACE(schedule, sizes) {
  return uov::cuda::schedule_workspace(sizes.at(0), sizes.at(1));
}

UOV_CUDA_HANDLER(gather_gemm, uov::cuda::gather_gemm_on,
                 .Arg<ffi::AnyBuffer>()      // x [N_in, C_in]
                     .Arg<ffi::AnyBuffer>()  // w [K, C_in, C_out], transposed: [K, C_out, C_in]
                     .Arg<uov::Matrix32>()   // map [K, N_out]
                     .Arg<uov::Index>()      // order of a schedule, or [0]
                     .Arg<uov::Matrix32>()   // masks of a schedule
                     .Ret<ffi::AnyBuffer>()  // y [N_out, C_out]
                     .Ret<uov::Workspace>()
                     .Attr<bool>("transposed")
                     .Attr<bool>("mirrored")
                     .Attr<int64_t>("precision"));

// [K, C_in, C_out, N_out, ...]
UOV_CUDA_WORKSPACE(gather_gemm, sizes) {
  return uov::cuda::gather_gemm_workspace(uov::cuda::shape_of(sizes));
}

UOV_CUDA_HANDLER(gather_gemm_affine, uov::cuda::gather_gemm_affine_on,
                 .Arg<ffi::AnyBuffer>()      // x [N_in, C_in]
                     .Arg<ffi::AnyBuffer>()  // w [K, C_in, C_out]
                     .Arg<uov::Matrix32>()   // map [K, N_out]
                     .Arg<uov::Index>()      // order of a schedule, or [0]
                     .Arg<uov::Matrix32>()   // masks of a schedule
                     .Arg<uov::Channels>()   // mean [C_out]
                     .Arg<uov::Channels>()   // scale [C_out]
                     .Arg<uov::Channels>()   // bias [C_out]
                     .Arg<ffi::AnyBuffer>()  // shortcut [N_out, C_out], or anything
                     .Arg<uov::Count>()      // count []
                     .Ret<ffi::AnyBuffer>()  // y [N_out, C_out]
                     .Ret<uov::Workspace>()
                     .Attr<bool>("has_shortcut")
                     .Attr<bool>("relu")
                     .Attr<int64_t>("precision"));

// [K, C_in, C_out, N_out, ...]
UOV_CUDA_WORKSPACE(gather_gemm_affine, sizes) {
  return uov::cuda::gather_gemm_workspace(uov::cuda::shape_of(sizes));
}

UOV_CUDA_HANDLER(gather_gemm_moments, uov::cuda::gather_gemm_moments_on,
                 .Arg<ffi::AnyBuffer>()      // x [N_in, C_in]
                     .Arg<ffi::AnyBuffer>()  // w [K, C_in, C_out]
                     .Arg<uov::Matrix32>()   // map [K, N_out]
                     .Arg<uov::Index>()      // order of a schedule, or [0]
                     .Arg<uov::Matrix32>()   // masks of a schedule
                     .Arg<uov::Count>()      // count []
                     .Ret<ffi::AnyBuffer>()  // y [N_out, C_out]
                     .Ret<uov::Channels>()   // mean [C_out]
                     .Ret<uov::Channels>()   // m2 [C_out]
                     .Ret<uov::Workspace>()
                     .Attr<int64_t>("precision"));

// [K, C_in, C_out, N_out, ...]
UOV_CUDA_WORKSPACE(gather_gemm_moments, sizes) {
  return uov::cuda::gather_gemm_moments_workspace(uov::cuda::shape_of(sizes));
}

UOV_CUDA_HANDLER(gather_gemm_dw, uov::cuda::gather_gemm_dw_on,
                 .Arg<ffi::AnyBuffer>()           // x [N_in, C_in]
                     .Arg<ffi::AnyBuffer>()       // dy [N_out, C_out]
                     .Arg<uov::Matrix32>()        // map [K, N_out]
                     .Arg<uov::Matrix32>()        // pair_rows of a schedule
                     .Arg<uov::Index>()           // pair_counts of a schedule, or [0]
                     .Ret<uov::WeightGradient>()  // dw [K, C_in, C_out]
                     .Ret<uov::Workspace>()
                     .Attr<int64_t>("precision"));

// [K, C_in, C_out, N_out, ...]
UOV_CUDA_WORKSPACE(gather_gemm_dw, sizes) {
  return uov::cuda::gather_gemm_dw_workspace(uov::cuda::shape_of(sizes));
}
