// column_moments, affine_rows and its gradient of the CUDA backend as XLA custom calls.
#include "cuda/handlers.h"
#include "cuda/norm.h"
#include "ffi/checks.h"

namespace ffi = xla::ffi;

namespace uov::cuda {
namespace {

void column_moments_on(Stream stream, ffi::AnyBuffer x, Count count, ffi::Result<Channels> mean,
                       ffi::Result<Channels> m2, ffi::Result<uov::Workspace> workspace) {
  const RowsSize size = checked_column_moments(x, *mean, *m2);
  require_workspace("column_moments", *workspace, column_sums_workspace(size.rows, size.channels));
  with_type(x, [&](auto type) {
    using T = decltype(type);
    column_moments<T>(stream, data<T>(x), size.rows, size.channels, count.typed_data(),
                      mean->typed_data(), m2->typed_data(), workspace->typed_data());
  });
}

void affine_rows_on(Stream stream, ffi::AnyBuffer x, Channels mean, Channels scale, Channels bias,
                    ffi::AnyBuffer shortcut, Count count, ffi::Result<ffi::AnyBuffer> y,
                    bool has_shortcut, bool relu) {
  const RowsSize size = checked_affine_rows(x, mean, scale, bias, shortcut, *y);
  with_type(x, [&](auto type) {
    using T = decltype(type);
    const RowAffine<T> affine{mean.typed_data(),  scale.typed_data(),
                              bias.typed_data(),  has_shortcut ? data<T>(shortcut) : nullptr,
                              count.typed_data(), relu};
    affine_rows<T>(stream, data<T>(x), size.rows, size.channels, affine, data<T>(*y));
  });
}

void affine_gradient_sums_on(Stream stream, ffi::AnyBuffer dy, ffi::AnyBuffer y, ffi::AnyBuffer x,
                             Channels mean, Count count, ffi::Result<Channels> sum,
                             ffi::Result<Channels> sum_deviation,
                             ffi::Result<uov::Workspace> workspace, bool relu) {
  const RowsSize size = checked_affine_gradient_sums(dy, y, x, mean, *sum, *sum_deviation);
  require_workspace("affine_gradient_sums", *workspace,
                    column_sums_workspace(size.rows, size.channels));
  with_type(x, [&](auto type) {
    using T = decltype(type);
    affine_gradient_sums<T>(stream, data<T>(dy), relu ? data<T>(y) : nullptr, data<T>(x), size.rows,
                            size.channels, mean.typed_data(), count.typed_data(), sum->typed_data(),
                            sum_deviation->typed_data(), workspace->typed_data());
  });
}

void affine_gradient_rows_on(Stream stream, ffi::AnyBuffer dy, ffi::AnyBuffer y, ffi::AnyBuffer x,
                             Channels mean, Channels offset, Channels slope, Channels scale,
                             Count count, ffi::Result<ffi::AnyBuffer> dx,
                             ffi::Result<ffi::AnyBuffer> dshortcut, bool relu, bool has_shortcut) {
  const RowsSize size = checked_affine_gradient_rows(dy, y, x, mean, offset, slope, scale, *dx,
                                                     *dshortcut, has_shortcut);
  with_type(x, [&](auto type) {
    using T = decltype(type);
    affine_gradient_rows<T>(stream, data<T>(dy), relu ? data<T>(y) : nullptr, data<T>(x), size.rows,
                            size.channels, mean.typed_data(), offset.typed_data(),
                            slope.typed_data(), scale.typed_data(), count.typed_data(),
                            data<T>(*dx), has_shortcut ? data<T>(*dshortcut) : nullptr);
  });
}

}  // namespace
}  // namespace uov::cuda

UOV_CUDA_HANDLER(column_moments, uov::cuda::column_moments_on,
                 .Arg<ffi::AnyBuffer>()        // x [N, C]
                     .Arg<uov::Count>()        // valid rows
                     .Ret<uov::Channels>()     // mean [C]
                     .Ret<uov::Channels>()     // m2 [C]
                     .Ret<uov::Workspace>());  // of sizes N, C
UOV_CUDA_WORKSPACE(column_moments, sizes) {
  return uov::cuda::column_sums_workspace(sizes.at(0), sizes.at(1));
}

UOV_CUDA_HANDLER(affine_rows, uov::cuda::affine_rows_on,
                 .Arg<ffi::AnyBuffer>()      // x [N, C]
                     .Arg<uov::Channels>()   // mean [C]
                     .Arg<uov::Channels>()   // scale [C]
                     .Arg<uov::Channels>()   // bias [C]
                     .Arg<ffi::AnyBuffer>()  // shortcut [N, C], or ignored
                     .Arg<uov::Count>()      // valid rows
                     .Ret<ffi::AnyBuffer>()  // y [N, C]
                     .Attr<bool>("has_shortcut")
                     .Attr<bool>("relu"));

UOV_CUDA_HANDLER(affine_gradient_sums, uov::cuda::affine_gradient_sums_on,
                 .Arg<ffi::AnyBuffer>()      // dy [N, C]
                     .Arg<ffi::AnyBuffer>()  // y [N, C], ignored without ReLU
                     .Arg<ffi::AnyBuffer>()  // x [N, C]
                     .Arg<uov::Channels>()   // mean [C]
                     .Arg<uov::Count>()      // valid rows
                     .Ret<uov::Channels>()   // sum [C]
                     .Ret<uov::Channels>()   // sum_deviation [C]
                     .Ret<uov::Workspace>()  // of sizes N, C
                     .Attr<bool>("relu"));
UOV_CUDA_WORKSPACE(affine_gradient_sums, sizes) {
  return uov::cuda::column_sums_workspace(sizes.at(0), sizes.at(1));
}

UOV_CUDA_HANDLER(affine_gradient_rows, uov::cuda::affine_gradient_rows_on,
                 .Arg<ffi::AnyBuffer>()      // dy [N, C]
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
