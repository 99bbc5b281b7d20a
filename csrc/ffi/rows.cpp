// gather_rows, gather_scatter_rows and unit_rows as XLA custom calls.
#include "core/rows.h"

#include "ffi/checks.h"
#include "ffi/cpu.h"
#include "ffi/handlers.h"

namespace ffi = xla::ffi;

namespace uov {
namespace {

ffi::Error gather_rows_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, Index index,
                               ffi::Result<ffi::AnyBuffer> y) {
  return guarded_on_cpu([&] {
    const RowMoves size = checked_gather_rows(x, index, *y);
    with_type(x, [&](auto type) {
      using T = decltype(type);
      gather_rows<T>(data<T>(x), size.rows_in, size.channels, index.typed_data(), size.moves,
                     data<T>(*y), on_pool(pool));
    });
  });
}

ffi::Error gather_scatter_rows_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, Index source,
                                       Index target, ffi::Result<ffi::AnyBuffer> y, bool identity) {
  return guarded_on_cpu([&] {
    const RowMoves size = checked_gather_scatter_rows(x, source, target, *y, identity);
    with_type(x, [&](auto type) {
      using T = decltype(type);
      gather_scatter_rows<T>(data<T>(x), size.rows_in, size.channels,
                             identity ? nullptr : source.typed_data(), target.typed_data(),
                             size.moves, data<T>(*y), size.rows_out, on_pool(pool));
    });
  });
}

ffi::Error unit_rows_handler(ffi::ThreadPool pool, Rows32 x, Count count, ffi::Result<Rows32> y,
                             ffi::Result<Channels> inverse) {
  return guarded_on_cpu([&] {
    const RowsSize size = checked_unit_rows(x, *y, *inverse);
    unit_rows(x.typed_data(), size.rows, size.channels, *count.typed_data(), y->typed_data(),
              inverse->typed_data(), on_pool(pool));
  });
}

ffi::Error unit_rows_gradient_handler(ffi::ThreadPool pool, Rows32 dy, Rows32 y, Channels inverse,
                                      Count count, ffi::Result<Rows32> dx) {
  return guarded_on_cpu([&] {
    const RowsSize size = checked_unit_rows_gradient(dy, y, inverse, *dx);
    unit_rows_gradient(dy.typed_data(), y.typed_data(), inverse.typed_data(), size.rows,
                       size.channels, *count.typed_data(), dx->typed_data(), on_pool(pool));
  });
}

}  // namespace
}  // namespace uov

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_gather_rows_cpu, uov::gather_rows_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()    // x [N, C]
                                  .Arg<uov::Index>()        // index [M]
                                  .Ret<ffi::AnyBuffer>());  // y [M, C]

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_gather_scatter_rows_cpu, uov::gather_scatter_rows_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()     // x [N, C]
                                  .Arg<uov::Index>()         // source [M], ignored when identity
                                  .Arg<uov::Index>()         // target [M]
                                  .Ret<ffi::AnyBuffer>()     // y [rows, C]
                                  .Attr<bool>("identity"));  // source[m] = m

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_unit_rows_cpu, uov::unit_rows_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<uov::Rows32>()      // x [N, C]
                                  .Arg<uov::Count>()       // valid rows
                                  .Ret<uov::Rows32>()      // y [N, C]
                                  .Ret<uov::Channels>());  // inverse lengths [N]

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_unit_rows_gradient_cpu, uov::unit_rows_gradient_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<uov::Rows32>()    // dy [N, C]
                                  .Arg<uov::Rows32>()    // y [N, C]
                                  .Arg<uov::Channels>()  // inverse lengths [N]
                                  .Arg<uov::Count>()     // valid rows
                                  .Ret<uov::Rows32>());  // dx [N, C]
