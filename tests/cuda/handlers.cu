// Handlers that do what handlers must not, beside what they may; test_handlers.py registers them.
#include <stdexcept>

#include "cuda/device.h"
#include "cuda/fault.h"
#include "cuda/fault_memory.h"
#include "cuda/handlers.h"
#include "cuda/launch.h"

namespace uov::cuda {
namespace {

namespace ffi = xla::ffi;

UOV_KERNEL(32) double_rows(Global<const float> x, Global<float> y, int rows) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < rows) y[i] = 2.0f * x[i];
}

UOV_KERNEL(32) report_fault(Global<int32_t> fault) {
  report(fault, FaultKind::kRowIndex, static_cast<int32_t>(threadIdx.x) / 32 + 7, 5);
}

// Twice x; only so many rows of it are written. `again`: all of them once more.
void doubled(Stream stream, Channels x, ffi::Result<Channels> y, int64_t rows, bool again) {
  if (rows < 0) throw std::invalid_argument("there are no rows below 0");
  const auto count = static_cast<int64_t>(x.element_count());
  launch(stream, "double_rows", &double_rows, dim3(1), 32, 0,
         global<const float>(x.typed_data(), count), global(y->typed_data(), count),
         static_cast<int>(rows));
  if (again) {
    launch(stream, "read_rows", &double_rows, dim3(1), 32, 0,
           global<const float>(y->typed_data(), count), global(y->typed_data(), count),
           static_cast<int>(count));
  }
}

void faulty(Stream stream, Channels, ffi::Result<Channels> y) {
  fill_bytes(stream, y->typed_data(), 0, static_cast<int64_t>(y->size_bytes()));
  launch(stream, "report_fault", &report_fault, dim3(3), 32, 0,
         global(fault_numbers(), kFaultNumbers));
}

}  // namespace
}  // namespace uov::cuda

#pragma GCC visibility push(default)
UOV_CUDA_HANDLER(doubled, uov::cuda::doubled,
                 .Arg<uov::Channels>()       // x [N]
                     .Ret<uov::Channels>()   // y [N]
                     .Attr<int64_t>("rows")  // written
                     .Attr<bool>("again"));  // and read again
UOV_CUDA_HANDLER(faulty, uov::cuda::faulty,
                 .Arg<uov::Channels>()        // x [N]
                     .Ret<uov::Channels>());  // y [N], zeros

// What it reported: kind, a, b, 0.
extern "C" void fault_of(int device, int32_t* numbers) {
  const auto found = uov::cuda::fault(device);
  for (size_t i = 0; i < found.size(); ++i) numbers[i] = found[i];
}
extern "C" void clear_fault_of(int device) { uov::cuda::clear_fault(device); }
#pragma GCC visibility pop
