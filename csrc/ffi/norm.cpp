// column_moments, affine_rows and its gradient as XLA custom calls.
#include "core/norm.h"

#include "ffi/arguments.h"
#include "ffi/handlers.h"
#include "ffi/thread_pool.h"

namespace ffi = xla::ffi;

namespace uov {
namespace {

NormShape shape_of(ffi::AnyBuffer x, Count count) {
  require(x.dimensions().size() == 2, "norms take rows [N, C]");
  const int64_t rows = x.dimensions()[0];
  return {rows, valid_rows(count, rows), x.dimensions()[1]};
}

void require_like(ffi::AnyBuffer x, ffi::AnyBuffer other) {
  const auto xd = x.dimensions(), od = other.dimensions();
  require(od.size() == 2 && od[0] == xd[0] && od[1] == xd[1] &&
              other.element_type() == x.element_type(),
          "the rows [N, C] of a norm must have one shape and one dtype");
}

void require_channels(const NormShape& shape, const Channels& vector) {
  require(static_cast<int64_t>(vector.element_count()) == shape.channels,
          "the vectors of a norm must be [C] for rows [N, C]");
}

ffi::Error column_moments_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, Count count,
                                  ffi::Result<Channels> mean, ffi::Result<Channels> m2) {
  return guarded([&] {
    const NormShape shape = shape_of(x, count);
    require_channels(shape, *mean);
    require_channels(shape, *m2);
    with_type(x, [&](auto type) {
      using T = decltype(type);
      column_moments<T>(shape, data<T>(x), mean->typed_data(), m2->typed_data(), on_pool(pool));
    });
  });
}

ffi::Error affine_rows_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, Channels mean,
                               Channels scale, Channels bias, ffi::AnyBuffer shortcut, Count count,
                               ffi::Result<ffi::AnyBuffer> y, bool has_shortcut, bool relu) {
  return guarded([&] {
    const NormShape shape = shape_of(x, count);
    for (const Channels& vector : {mean, scale, bias}) require_channels(shape, vector);
    require_like(x, *y);
    require_like(x, shortcut);
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
  return guarded([&] {
    const NormShape shape = shape_of(x, count);
    for (const Channels& vector : {mean, *sum, *sum_deviation}) require_channels(shape, vector);
    require_like(x, dy);
    require_like(x, y);
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
  return guarded([&] {
    const NormShape shape = shape_of(x, count);
    for (const Channels& vector : {mean, offset, slope, scale}) require_channels(shape, vector);
    require_like(x, dy);
    require_like(x, y);
    require_like(x, *dx);
    if (has_shortcut) require_like(x, *dshortcut);
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
