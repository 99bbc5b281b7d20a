// How many threads the other handlers may use, as an XLA custom call.
#include "ffi/arguments.h"
#include "ffi/handlers.h"
#include "ffi/thread_pool.h"

namespace ffi = xla::ffi;

namespace uov {
namespace {

ffi::Error pool_threads_handler(ffi::ThreadPool pool, ffi::Result<Count> threads) {
  *threads->typed_data() = static_cast<int32_t>(threads_of(pool));
  return ffi::Error::Success();
}

}  // namespace
}  // namespace uov

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    uov_pool_threads_cpu, uov::pool_threads_handler,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Ret<uov::Count>());  // threads []
