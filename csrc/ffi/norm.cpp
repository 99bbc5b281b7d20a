// column_moments, affine_rows and its gradient as XLA custom calls.
#include "core/norm.h"

#include "ffi/checks.h"
#include "ffi/cpu.h"
#include "ffi/handlers.h"

namespace ffi = xla::ffi;

namespace uov {
namespace {

NormShape shape_of(RowsSize size, Count count) {
  return {size.rows, valid_rows(count, size.rows), size.channels};
}

ffi::Error column_moments_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, Count count,
                                  ffi::Result<Channels> mean, ffi::Result<Channels> m2) {
  return guarded_on_cpu([&] {
    const NormShape shape = shape_of(checked_column_moments(x, *mean, *m2), count);
    with_type(x, [&](auto type) {
      using T = decltype(type);
      column_moments<T>(shape, data<T>(x), mean->typed_data(), m2->typed_data(), on_pool(pool));
    });
  });
}

ffi::Error affine_rows_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, Channels mean,
                               Channels scale, Channels bias, ffi::AnyBuffer shortcut, Count count,
                               ffi::Result<ffi::AnyBuffer> y, bool has_shortcut, bool relu) {
  return guarded_on_cpu([&] {
    const NormShape shape =
        shape_of(checked_affine_rows(x, mean, scale, bias, shortcut, *y), count);
    with_type(x, [&](auto type) {
      using T = decltype(type);
      affine_rows<T>(shape, data<T>(x), mean.typed_data(), scale.typed_data(), bias.typed_data(),
                     has_shortcut ? data<T>(shortcut) : nullptr, relu, data<T>(*y), on_pool(pool));
    });
  });
}

ffi::Error affine_gradient_sums_handler(ffi::ThreadPool pool, ffi::AnyBuffer dy, ffi::AnyBuffer y,
                                        ffi::AnyBuffer x, Channels mean, Count count,
                                        ffi::Result<Channels> sum,
                                        ffi::Result<Channels> sum_deviation, bool relu) {
  return guarded_on_cpu([&] {
    const NormShape shape =
        shape_of(checked_affine_gradient_sums(dy, y, x, mean, *sum, *sum_deviation), count);
    with_type(x, [&](auto type) {
      using T = decltype(type);
      affine_gradient_sums<T>(shape, data<T>(dy), relu ? data<T>(y) : nullptr, data<T>(x),
                              mean.typed_data(), sum->typed_data(), sum_deviation->typed_data(),
                              on_pool(pool));
    });
  });
}

ffi::Error affine_gradient_rows_handler(ffi::ThreadPool pool, ffi::AnyBuffer dy, ffi::AnyBuffer y,
                                        ffi::AnyBuffer x, Channels mean, Channels offset,
                                        Channels slope, Channels scale, Count count,
                                        ffi::Result<ffi::AnyBuffer> dx,
                                        ffi::Result<ffi::AnyBuffer> dshortcut, bool relu,
                                        bool has_shortcut) {
  return guarded_on_cpu([&] {
    const NormShape shape =
        shape_of(checked_affine_gradient_rows(dy, y, x, mean, offset, slope, scale, *dx, *dshortcut,
                                              has_shortcut),
                 count);
    with_type(x, [&](auto type) {
      using T = decltype(type);
      affine_gradient_rows<T>(shape, data<T>(dy), relu ? data<T>(y) : nullptr, data<T>(x),
                              mean.typed_data(), offset.typed_data(), slope.typed_data(),
                              scale.typed_data(), data<T>(*dx),
                              has_shortcut ? data<T>(*dshortcut) : nullptr, on_pool(pool));
    });
  });
}

}  // namespace
}  // namespace uov

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_column_moments_cpu, uov::column_moments_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()   // x [N, C]
                                  .Arg<uov::Count>()       // valid rows
                                  .Ret<uov::Channels>()    // mean [C]
                                  .Ret<uov::Channels>());  // m2 [C]

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_affine_rows_cpu, uov::affine_rows_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()  // x [N, C]
                                  .Arg<uov::Channels>()   // mean [C]
                                  .Arg<uov::Channels>()   // scale [C]
                                  .Arg<uov::Channels>()   // bias [C]
                                  .Arg<ffi::AnyBuffer>()  // shortcut [N, C], or ignored
                                  .Arg<uov::Count>()      // valid rows
                                  .Ret<ffi::AnyBuffer>()  // y [N, C]
                                  .Attr<bool>("has_shortcut")
                                  .Attr<bool>("relu"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_affine_gradient_sums_cpu, uov::affine_gradient_sums_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()  // dy [N, C]
                                  .Arg<ffi::AnyBuffer>()  // y [N, C], ignored without ReLU
                                  .Arg<ffi::AnyBuffer>()  // x [N, C]
                                  .Arg<uov::Channels>()   // mean [C]
                                  .Arg<uov::Count>()      // valid rows
                                  .Ret<uov::Channels>()   // sum [C]
                                  .Ret<uov::Channels>()   // sum_deviation [C]
                                  .Attr<bool>("relu"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_affine_gradient_rows_cpu, uov::affine_gradient_rows_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()  // dy [N, C]
                                  .Arg<ffi::AnyBuffer>()  // y [N, C], ignored without ReLU
                                  .Arg<ffi::AnyBuffer>()  // x [N, C]
                                  .Arg<uov::Channels>()   // mean [C]
                                  .Arg<uov::Channels>()   // offset [C]
                                  .Arg<uov::Channels>()   // slope [C]
                                  .Arg<uov::Channels>()   // scale [C]
                                  .Arg<uov::Count>()      // valid rows
                                  .Ret<ffi::AnyBuffer>()  // dx [N, C]
                                  .Ret<ffi::AnyBuffer>()  // dshortcut [N, C], or [0, C]
                                  .Attr<bool>("relu")
                                  .Attr<bool>("has_shortcut"));
