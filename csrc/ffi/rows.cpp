// gather_rows and gather_scatter_rows as XLA custom calls.
#include "core/rows.h"

#include "ffi/handlers.h"
#include "ffi/thread_pool.h"

namespace ffi = xla::ffi;

namespace uov {
namespace {

using Index = ffi::Buffer<ffi::S32, 1>;

// Calls body(const T* in, T* out) with the buffers' element type.
template <typename Body>
void with_type(ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> y, Body&& body) {
  require(x.dimensions().size() == 2 && y->dimensions().size() == 2 &&
              x.dimensions()[1] == y->dimensions()[1] && x.element_type() == y->element_type(),
          "rows are moved between two [rows, channels] arrays of one dtype");
  if (x.element_type() == ffi::F32) {
    body(reinterpret_cast<const float*>(x.untyped_data()),
         reinterpret_cast<float*>(y->untyped_data()));
  } else {
    require(x.element_type() == ffi::BF16, "rows must be float32 or bfloat16");
    body(reinterpret_cast<const bfloat16*>(x.untyped_data()),
         reinterpret_cast<bfloat16*>(y->untyped_data()));
  }
}

ffi::Error gather_rows_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, Index index,
                               ffi::Result<ffi::AnyBuffer> y) {
  return guarded([&] {
    with_type(x, y, [&](const auto* in, auto* out) {
      gather_rows(in, x.dimensions()[0], x.dimensions()[1], index.typed_data(), y->dimensions()[0],
                  out, on_pool(pool));
    });
  });
}

ffi::Error gather_scatter_rows_handler(ffi::ThreadPool pool, ffi::AnyBuffer x, Index source,
                                       Index target, ffi::Result<ffi::AnyBuffer> y, bool identity) {
  return guarded([&] {
    const int64_t pairs = target.dimensions()[0];
    require(identity ? x.dimensions()[0] == pairs : source.dimensions()[0] == pairs,
            "gather_scatter_rows: source and target must have the same length");
    with_type(x, y, [&](const auto* in, auto* out) {
      gather_scatter_rows(in, x.dimensions()[0], x.dimensions()[1],
                          identity ? nullptr : source.typed_data(), target.typed_data(), pairs, out,
                          y->dimensions()[0], on_pool(pool));
    });
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
