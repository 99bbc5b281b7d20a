// gather_gemm, what is joined with it and its gradients as XLA custom calls.
#include "core/gather_gemm.h"

#include "ffi/arguments.h"
#include "ffi/handlers.h"
#include "ffi/thread_pool.h"

namespace ffi = xla::ffi;

namespace uov {
namespace {

using Map = Matrix32;
using WeightGradient = ffi::Buffer<ffi::F32, 3>;

// The sizes of a product, once all its arguments have been seen to fit.
GatherGemmShape checked_shape(ffi::AnyBuffer x, ffi::AnyBuffer w, Map map,
                              ffi::Result<ffi::AnyBuffer> y, WeightView view) {
  const auto xd = x.dimensions(), wd = w.dimensions(), md = map.dimensions(), yd = y->dimensions();
  require(xd.size() == 2 && wd.size() == 3 && yd.size() == 2,
          "gather_gemm expects x [N_in, C_in], w [K, C_in, C_out], map [K, N_out]");
  const GatherGemmShape shape{wd[0], xd[0], yd[0], xd[1], yd[1]};
  require(md[0] == shape.kernel && md[1] == shape.rows_out &&
              wd[view.transposed ? 2 : 1] == shape.channels_in &&
              wd[view.transposed ? 1 : 2] == shape.channels_out,
          "gather_gemm: x, w, map and y do not fit together");
  require(w.element_type() == x.element_type() && y->element_type() == x.element_type(),
          "gather_gemm: x, w and y must have the same dtype");
  require(!view.mirrored || shape.rows_in == shape.rows_out,
          "gather_gemm: a mirrored map must have as many input as output rows");
  return shape;
}

void forward(ffi::ThreadPool& pool, ffi::AnyBuffer x, ffi::AnyBuffer w, Map map,
             ffi::Result<ffi::AnyBuffer> y, WeightView view) {
  const GatherGemmShape shape = checked_shape(x, w, map, y, view);
  with_type(x, [&](auto type) {
    using T = decltype(type);
    gather_gemm<T>(shape, view, data<T>(x), data<T>(w), map.typed_data(), nullptr, data<T>(*y),
                   on_pool(pool));
  });
}

void forward_affine(ffi::ThreadPool& pool, ffi::AnyBuffer x, ffi::AnyBuffer w, Map map,
                    Channels mean, Channels scale, Channels bias, ffi::AnyBuffer shortcut,
                    Count count, ffi::Result<ffi::AnyBuffer> y, bool has_shortcut, bool relu) {
  const GatherGemmShape shape = checked_shape(x, w, map, y, {});
  for (const Channels& vector : {mean, scale, bias}) {
    require(static_cast<int64_t>(vector.element_count()) == shape.channels_out,
            "gather_gemm_affine: mean, scale and bias must be [C_out]");
  }
  require(!has_shortcut || (shortcut.element_count() == y->element_count() &&
                            shortcut.element_type() == y->element_type()),
          "gather_gemm_affine: the shortcut must be like the result");
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
  const GatherGemmShape shape = checked_shape(x, w, map, y, {});
  for (const Channels& vector : {*mean, *m2}) {
    require(static_cast<int64_t>(vector.element_count()) == shape.channels_out,
            "gather_gemm_moments: mean and m2 must be [C_out]");
  }
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
  // dx is the product of dy with the transposed weights: its checks cover all but x, map and dw.
  const GatherGemmShape product = checked_shape(dy, w, back, dx, {true, mirrored});
  const GatherGemmShape shape{product.kernel, product.rows_out, product.rows_in,
                              product.channels_out, product.channels_in};
  const auto xd = x.dimensions(), md = map.dimensions(), wd = dw->dimensions();
  require(xd.size() == 2 && xd[0] == shape.rows_in && xd[1] == shape.channels_in &&
              md[0] == shape.kernel && md[1] == shape.rows_out && wd[0] == shape.kernel &&
              wd[1] == shape.channels_in && wd[2] == shape.channels_out &&
              x.element_type() == dy.element_type(),
          "gather_gemm_gradients: x, w, dy, map, back, dx and dw do not fit together");
  with_type(x, [&](auto type) {
    using T = decltype(type);
    gather_gemm_gradients<T>(shape, data<T>(x), data<T>(w), data<T>(dy), map.typed_data(),
                             mirrored ? nullptr : back.typed_data(), data<T>(*dx), dw->typed_data(),
                             on_pool(pool));
  });
}

void weight_gradient(ffi::ThreadPool& pool, ffi::AnyBuffer x, ffi::AnyBuffer dy, Map map,
                     ffi::Result<WeightGradient> dw) {
  const auto xd = x.dimensions(), yd = dy.dimensions(), md = map.dimensions(),
             wd = dw->dimensions();
  require(xd.size() == 2 && yd.size() == 2,
          "gather_gemm_dw expects x [N_in, C_in], dy [N_out, C_out], map [K, N_out]");
  const GatherGemmShape shape{md[0], xd[0], yd[0], xd[1], yd[1]};
  require(md[1] == shape.rows_out && wd[0] == shape.kernel && wd[1] == shape.channels_in &&
              wd[2] == shape.channels_out && x.element_type() == dy.element_type(),
          "gather_gemm_dw: x, dy, map and dw do not fit together");
  with_type(x, [&](auto type) {
    using T = decltype(type);
    gather_gemm_dw<T>(shape, data<T>(x), data<T>(dy), map.typed_data(), dw->typed_data(),
                      on_pool(pool));
  });
}

ffi::Error gather_gemm_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer w, Map map,
                               ffi::Result<ffi::AnyBuffer> y, bool transposed, bool mirrored) {
  return guarded([&] { forward(pool, x, w, map, y, {transposed, mirrored}); });
}

ffi::Error gather_gemm_affine_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer w,
                                      Map map, Channels mean, Channels scale, Channels bias,
                                      ffi::AnyBuffer shortcut, Count count,
                                      ffi::Result<ffi::AnyBuffer> y, bool has_shortcut, bool relu) {
  return guarded([&] {
    forward_affine(pool, x, w, map, mean, scale, bias, shortcut, count, y, has_shortcut, relu);
  });
}

ffi::Error gather_gemm_moments_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer w,
                                       Map map, Count count, ffi::Result<ffi::AnyBuffer> y,
                                       ffi::Result<Channels> mean, ffi::Result<Channels> m2) {
  return guarded([&] { forward_moments(pool, x, w, map, count, y, mean, m2); });
}

ffi::Error gather_gemm_gradients_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer w,
                                         ffi::AnyBuffer dy, Map map, Map back,
                                         ffi::Result<ffi::AnyBuffer> dx,
                                         ffi::Result<WeightGradient> dw, bool mirrored) {
  return guarded([&] { gradients(pool, x, w, dy, map, back, dx, dw, mirrored); });
}

ffi::Error gather_gemm_dw_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer dy,
                                  Map map, ffi::Result<WeightGradient> dw) {
  return guarded([&] { weight_gradient(pool, x, dy, map, dw); });
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
