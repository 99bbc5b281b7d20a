// moving_average as an XLA custom call.
#include "core/moving_average.h"

#include "ffi/checks.h"
#include "ffi/cpu.h"
#include "ffi/handlers.h"

namespace ffi = xla::ffi;

namespace uov {
namespace {

ffi::Error moving_average_handler(ffi::ThreadPool pool, ffi::AnyBuffer old, ffi::AnyBuffer sample,
                                  Number decay, Number weight, ffi::Result<ffi::AnyBuffer> next,
                                  bool squares) {
  return guarded_on_cpu([&] {
    const int64_t count = checked_moving_average(old, sample, *next);
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
                                  .Arg<uov::Number>()     // decay []
                                  .Arg<uov::Number>()     // weight []
                                  .Ret<ffi::AnyBuffer>()  // next, like old
                                  .Attr<bool>("squares"));
