// gather_rows, gather_scatter_rows and unit_rows as XLA custom calls.
#include "core/rows.h"

#include "ffi/arguments.h"
#include "ffi/handlers.h"
#include "ffi/thread_pool.h"

namespace ffi = xla::ffi;

namespace uov {
namespace {

using Index = ffi::Buffer<ffi::S32, 1>;
using Rows = ffi::Buffer<ffi::F32, 2>;
using Row = ffi::Buffer<ffi::F32, 1>;

void require_row_moves(ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> y) {
  require(x.dimensions().size() == 2 && y->dimensions().size() == 2 &&
              x.dimensions()[1] == y->dimensions()[1] && x.element_type() == y->element_type(),
          "rows are moved between two [rows, channels] arrays of one dtype");
}

ffi::Error gather_rows_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, Index index,
                               ffi::Result<ffi::AnyBuffer> y) {
  return guarded([&] {
    require_row_moves(x, y);
    require(index.dimensions()[0] == y->dimensions()[0],
            "gather_rows: index and result must have the same length");
    with_type(x, [&](auto type) {
      using T = decltype(type);
      gather_rows<T>(data<T>(x), x.dimensions()[0], x.dimensions()[1], index.typed_data(),
                     y->dimensions()[0], data<T>(*y), on_pool(pool));
    });
  });
}

ffi::Error gather_scatter_rows_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, Index source,
                                       Index target, ffi::Result<ffi::AnyBuffer> y, bool identity) {
  return guarded([&] {
    require_row_moves(x, y);
    const int64_t pairs = target.dimensions()[0];
    require(identity ? x.dimensions()[0] == pairs : source.dimensions()[0] == pairs,
            "gather_scatter_rows: source and target must have the same length");
    with_type(x, [&](auto type) {
      using T = decltype(type);
      gather_scatter_rows<T>(data<T>(x), x.dimensions()[0], x.dimensions()[1],
                             identity ? nullptr : source.typed_data(), target.typed_data(), pairs,
                             data<T>(*y), y->dimensions()[0], on_pool(pool));
    });
  });
}

ffi::Error unit_rows_handler(ffi::ThreadPool pool, Rows x, Count count, ffi::Result<Rows> y,
                             ffi::Result<Row> inverse) {
  return guarded([&] {
    const auto size = x.dimensions();
    require(y->dimensions() == size && inverse->dimensions()[0] == size[0],
            "unit_rows: x, y and the inverse lengths do not fit together");
    unit_rows(x.typed_data(), size[0], size[1], *count.typed_data(), y->typed_data(),
              inverse->typed_data(), on_pool(pool));
  });
}

ffi::Error unit_rows_gradient_handler(ffi::ThreadPool pool, Rows dy, Rows y, Row inverse,
                                      Count count, ffi::Result<Rows> dx) {
  return guarded([&] {
    const auto size = y.dimensions();
    require(
        dy.dimensions() == size && dx->dimensions() == size && inverse.dimensions()[0] == size[0],
        "unit_rows: dy, y, dx and the inverse lengths do not fit together");
    unit_rows_gradient(dy.typed_data(), y.typed_data(), inverse.typed_data(), size[0], size[1],
                       *count.typed_data(), dx->typed_data(), on_pool(pool));
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
                                  .Arg<uov::Rows>()   // x [N, C]
                                  .Arg<uov::Count>()  // valid rows
                                  .Ret<uov::Rows>()   // y [N, C]
                                  .Ret<uov::Row>());  // inverse lengths [N]

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_unit_rows_gradient_cpu, uov::unit_rows_gradient_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<uov::Rows>()    // dy [N, C]
                                  .Arg<uov::Rows>()    // y [N, C]
                                  .Arg<uov::Row>()     // inverse lengths [N]
                                  .Arg<uov::Count>()   // valid rows
                                  .Ret<uov::Rows>());  // dx [N, C]
