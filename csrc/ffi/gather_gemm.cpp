// gather_gemm, what is joined with it and its gradients as XLA custom calls.
#include "core/gather_gemm.h"

#include "ffi/checks.h"
#include "ffi/cpu.h"
#include "ffi/handlers.h"

namespace ffi = xla::ffi;

namespace uov {
namespace {

using Map = Matrix32;
void forward(ffi::ThreadPool& pool, ffi::AnyBuffer x, ffi::AnyBuffer w, Map map,
             ffi::Result<ffi::AnyBuffer> y, WeightView view) {
  const GatherGemmShape shape = checked_gather_gemm(x, w, map, *y, view);
  with_type(x, [&](auto type) {
    using T = decltype(type);
    gather_gemm<T>(shape, view, data<T>(x), data<T>(w), map.typed_data(), nullptr, data<T>(*y),
                   on_pool(pool));
  });
}

void forward_affine(ffi::ThreadPool& pool, ffi::AnyBuffer x, ffi::AnyBuffer w, Map map,
                    Channels mean, Channels scale, Channels bias, ffi::AnyBuffer shortcut,
                    Count count, ffi::Result<ffi::AnyBuffer> y, bool has_shortcut, bool relu) {
  const GatherGemmShape shape =
      checked_gather_gemm_affine(x, w, map, mean, scale, bias, shortcut, *y, has_shortcut);
  with_type(x, [&](auto type) {
    using T = decltype(type);
    const RowAffine<T> after{mean.typed_data(),
                             scale.typed_data(),
                             bias.typed_data(),
                             has_shortcut ? data<T>(shortcut) : nullptr,
                             relu,
                             count.typed_data()[0]};
    gather_gemm<T>(shape, {}, data<T>(x), data<T>(w), map.typed_data(), &after, data<T>(*y),
                   on_pool(pool));
  });
}

void forward_moments(ffi::ThreadPool& pool, ffi::AnyBuffer x, ffi::AnyBuffer w, Map map,
                     Count count, ffi::Result<ffi::AnyBuffer> y, ffi::Result<Channels> mean,
                     ffi::Result<Channels> m2) {
  const GatherGemmShape shape = checked_gather_gemm_moments(x, w, map, *y, *mean, *m2);
  with_type(x, [&](auto type) {
    using T = decltype(type);
    gather_gemm_moments<T>(shape, data<T>(x), data<T>(w), map.typed_data(),
                           valid_rows(count, shape.rows_out), data<T>(*y), mean->typed_data(),
                           m2->typed_data(), on_pool(pool));
  });
}

void gradients(ffi::ThreadPool& pool, ffi::AnyBuffer x, ffi::AnyBuffer w, ffi::AnyBuffer dy,
               Map map, Map back, ffi::Result<ffi::AnyBuffer> dx, ffi::Result<WeightGradient> dw,
               bool mirrored) {
  const GatherGemmShape shape =
      checked_gather_gemm_gradients(x, w, dy, map, back, *dx, *dw, mirrored);
  with_type(x, [&](auto type) {
    using T = decltype(type);
    gather_gemm_gradients<T>(shape, data<T>(x), data<T>(w), data<T>(dy), map.typed_data(),
                             mirrored ? nullptr : back.typed_data(), data<T>(*dx), dw->typed_data(),
                             on_pool(pool));
  });
}

void weight_gradient(ffi::ThreadPool& pool, ffi::AnyBuffer x, ffi::AnyBuffer dy, Map map,
                     ffi::Result<WeightGradient> dw) {
  const GatherGemmShape shape = checked_gather_gemm_dw(x, dy, map, *dw);
  with_type(x, [&](auto type) {
    using T = decltype(type);
    gather_gemm_dw<T>(shape, data<T>(x), data<T>(dy), map.typed_data(), dw->typed_data(),
                      on_pool(pool));
  });
}

ffi::Error gather_gemm_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer w, Map map,
                               ffi::Result<ffi::AnyBuffer> y, bool transposed, bool mirrored) {
  return guarded_on_cpu([&] { forward(pool, x, w, map, y, {transposed, mirrored}); });
}

ffi::Error gather_gemm_affine_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer w,
                                      Map map, Channels mean, Channels scale, Channels bias,
                                      ffi::AnyBuffer shortcut, Count count,
                                      ffi::Result<ffi::AnyBuffer> y, bool has_shortcut, bool relu) {
  return guarded_on_cpu([&] {
    forward_affine(pool, x, w, map, mean, scale, bias, shortcut, count, y, has_shortcut, relu);
  });
}

ffi::Error gather_gemm_moments_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer w,
                                       Map map, Count count, ffi::Result<ffi::AnyBuffer> y,
                                       ffi::Result<Channels> mean, ffi::Result<Channels> m2) {
  return guarded_on_cpu([&] { forward_moments(pool, x, w, map, count, y, mean, m2); });
}

ffi::Error gather_gemm_gradients_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer w,
                                         ffi::AnyBuffer dy, Map map, Map back,
                                         ffi::Result<ffi::AnyBuffer> dx,
                                         ffi::Result<WeightGradient> dw, bool mirrored) {
  return guarded_on_cpu([&] { gradients(pool, x, w, dy, map, back, dx, dw, mirrored); });
}

ffi::Error gather_gemm_dw_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer dy,
                                  Map map, ffi::Result<WeightGradient> dw) {
  return guarded_on_cpu([&] { weight_gradient(pool, x, dy, map, dw); });
}

}  // namespace
}  // namespace uov

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_gather_gemm_cpu, uov::gather_gemm_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()  // x [N_in, C_in]
                                  .Arg<ffi::AnyBuffer>()  // w [K, C_in, C_out], transposed: [K,
                                                          // C_out, C_in]
                                  .Arg<uov::Map>()        // map [K, N_out]
                                  .Ret<ffi::AnyBuffer>()  // y [N_out, C_out]
                                  .Attr<bool>("transposed")
                                  .Attr<bool>("mirrored"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_gather_gemm_affine_cpu, uov::gather_gemm_affine_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()  // x [N_in, C_in]
                                  .Arg<ffi::AnyBuffer>()  // w [K, C_in, C_out]
                                  .Arg<uov::Map>()        // map [K, N_out]
                                  .Arg<uov::Channels>()   // mean [C_out]
                                  .Arg<uov::Channels>()   // scale [C_out]
                                  .Arg<uov::Channels>()   // bias [C_out]
                                  .Arg<ffi::AnyBuffer>()  // shortcut [N_out, C_out] or anything
                                  .Arg<uov::Count>()      // count []
                                  .Ret<ffi::AnyBuffer>()  // y [N_out, C_out]
                                  .Attr<bool>("has_shortcut")
                                  .Attr<bool>("relu"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_gather_gemm_dw_cpu, uov::gather_gemm_dw_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()         // x [N_in, C_in]
                                  .Arg<ffi::AnyBuffer>()         // dy [N_out, C_out]
                                  .Arg<uov::Map>()               // map [K, N_out]
                                  .Ret<uov::WeightGradient>());  // dw [K, C_in, C_out]

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_gather_gemm_moments_cpu, uov::gather_gemm_moments_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()   // x [N_in, C_in]
                                  .Arg<ffi::AnyBuffer>()   // w [K, C_in, C_out]
                                  .Arg<uov::Map>()         // map [K, N_out]
                                  .Arg<uov::Count>()       // count []
                                  .Ret<ffi::AnyBuffer>()   // y [N_out, C_out]
                                  .Ret<uov::Channels>()    // mean [C_out]
                                  .Ret<uov::Channels>());  // m2 [C_out]

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_gather_gemm_gradients_cpu, uov::gather_gemm_gradients_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()       // x [N_in, C_in]
                                  .Arg<ffi::AnyBuffer>()       // w [K, C_in, C_out]
                                  .Arg<ffi::AnyBuffer>()       // dy [N_out, C_out]
                                  .Arg<uov::Map>()             // map [K, N_out]
                                  .Arg<uov::Map>()             // back [K, N_in]
                                  .Ret<ffi::AnyBuffer>()       // dx [N_in, C_in]
                                  .Ret<uov::WeightGradient>()  // dw [K, C_in, C_out]
                                  .Attr<bool>("mirrored"));
