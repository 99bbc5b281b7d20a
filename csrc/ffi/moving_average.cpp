// moving_average as an XLA custom call.
#include "core/moving_average.h"

#include "ffi/arguments.h"
#include "ffi/handlers.h"
#include "ffi/thread_pool.h"

namespace ffi = xla::ffi;

namespace uov {
namespace {

using Floats = ffi::BufferR0<ffi::F32>;

ffi::Error moving_average_handler(ffi::ThreadPool pool, ffi::AnyBuffer old, ffi::AnyBuffer sample,
                                  Floats decay, Floats weight, ffi::Result<ffi::AnyBuffer> next,
                                  bool squares) {
  return guarded([&] {
    const auto count = static_cast<int64_t>(old.element_count());
    for (const ffi::AnyBuffer& buffer : {old, sample, *next}) {
      require(buffer.element_type() == ffi::F32 &&
                  static_cast<int64_t>(buffer.element_count()) == count,
              "moving_average: old, sample and next must be float32 of one shape");
    }
    moving_average(data<float>(old), data<float>(sample), count, decay.typed_data()[0],
                   weight.typed_data()[0], squares, data<float>(*next), on_pool(pool));
  });
}

}  // namespace
}  // namespace uov

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_moving_average_cpu, uov::moving_average_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()  // old
                                  .Arg<ffi::AnyBuffer>()  // sample, like old
                                  .Arg<uov::Floats>()     // decay []
                                  .Arg<uov::Floats>()     // weight []
                                  .Ret<ffi::AnyBuffer>()  // next, like old
                                  .Attr<bool>("squares"));
