// gather_rows, gather_scatter_rows and unit_rows of the CUDA backend as XLA custom calls.
#include "cuda/fault_memory.h"
#include "cuda/handlers.h"
#include "cuda/rows.h"
#include "ffi/checks.h"

namespace ffi = xla::ffi;

namespace uov::cuda {
namespace {

void gather_rows_on(Stream stream, ffi::AnyBuffer x, Index index, ffi::Result<ffi::AnyBuffer> y) {
  const RowMoves size = checked_gather_rows(x, index, *y);
  with_type(x, [&](auto type) {
    using T = decltype(type);
    gather_rows<T>(stream, data<T>(x), size.rows_in, size.channels, index.typed_data(), size.moves,
                   data<T>(*y), fault_numbers());
  });
}

void gather_scatter_rows_on(Stream stream, ffi::AnyBuffer x, Index source, Index target,
                            ffi::Result<ffi::AnyBuffer> y, ffi::Result<uov::Workspace> workspace,
                            bool identity) {
  const RowMoves size = checked_gather_scatter_rows(x, source, target, *y, identity);
  require_workspace("gather_scatter_rows", *workspace,
                    gather_scatter_rows_workspace(size.moves, size.rows_out, size.channels));
  with_type(x, [&](auto type) {
    using T = decltype(type);
    gather_scatter_rows<T>(stream, data<T>(x), size.rows_in, size.channels,
                           identity ? nullptr : source.typed_data(), target.typed_data(),
                           size.moves, data<T>(*y), size.rows_out, workspace->typed_data(),
                           fault_numbers());
  });
}

void unit_rows_on(Stream stream, Rows32 x, Count count, ffi::Result<Rows32> y,
                  ffi::Result<Channels> inverse) {
  const RowsSize size = checked_unit_rows(x, *y, *inverse);
  unit_rows(stream, x.typed_data(), size.rows, size.channels, count.typed_data(), y->typed_data(),
            inverse->typed_data());
}

void unit_rows_gradient_on(Stream stream, Rows32 dy, Rows32 y, Channels inverse, Count count,
                           ffi::Result<Rows32> dx) {
  const RowsSize size = checked_unit_rows_gradient(dy, y, inverse, *dx);
  unit_rows_gradient(stream, dy.typed_data(), y.typed_data(), inverse.typed_data(), size.rows,
                     size.channels, count.typed_data(), dx->typed_data());
}

}  // namespace
}  // namespace uov::cuda

UOV_CUDA_HANDLER(gather_rows, uov::cuda::gather_rows_on,
                 .Arg<ffi::AnyBuffer>()        // x [N, C]
                     .Arg<uov::Index>()        // index [M]
                     .Ret<ffi::AnyBuffer>());  // y [M, C]

UOV_CUDA_HANDLER(gather_scatter_rows, uov::cuda::gather_scatter_rows_on,
                 .Arg<ffi::AnyBuffer>()         // x [N, C]
                     .Arg<uov::Index>()         // source [M], ignored when identity
                     .Arg<uov::Index>()         // target [M]
                     .Ret<ffi::AnyBuffer>()     // y [rows, C]
                     .Ret<uov::Workspace>()     // of sizes M, rows, C
                     .Attr<bool>("identity"));  // source[m] = m
UOV_CUDA_WORKSPACE(gather_scatter_rows, sizes) {
  return uov::cuda::gather_scatter_rows_workspace(sizes.at(0), sizes.at(1), sizes.at(2));
}

UOV_CUDA_HANDLER(unit_rows, uov::cuda::unit_rows_on,
                 .Arg<uov::Rows32>()          // x [N, C]
                     .Arg<uov::Count>()       // valid rows
                     .Ret<uov::Rows32>()      // y [N, C]
                     .Ret<uov::Channels>());  // inverse lengths [N]

UOV_CUDA_HANDLER(unit_rows_gradient, uov::cuda::unit_rows_gradient_on,
                 .Arg<uov::Rows32>()        // dy [N, C]
                     .Arg<uov::Rows32>()    // y [N, C]
                     .Arg<uov::Channels>()  // inverse lengths [N]
                     .Arg<uov::Count>()     // valid rows
                     .Ret<uov::Rows32>());  // dx [N, C]
