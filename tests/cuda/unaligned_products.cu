// Products of arrays that do not begin where 16 bytes may move at once, as slices of others may
// not. XLA's own arrays begin at multiples of 64 bytes: calls through it cannot reach this.
#include <cstdint>

#include "cuda/gather_gemm.h"
#include "cuda/gather_gemm_dw.h"
#include "device_copy.h"

namespace uov::cuda {
namespace {

template <typename T>
void run_products(const int64_t* sizes, void* const* arrays, const int32_t* map, float* dw,
                  void* workspace, int32_t* fault) {
  const GatherGemmShape shape{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]};
  const auto precision = static_cast<Precision>(sizes[5]);
  T* const* a = reinterpret_cast<T* const*>(arrays);  // x, w, dy, y
  gather_gemm<T>(Stream{}, shape, {}, precision, a[0], a[1], map, {}, a[3], workspace, fault);
  gather_gemm_dw<T>(Stream{}, shape, precision, a[0], a[2], map, {}, dw, workspace, fault);
}

}  // namespace
}  // namespace uov::cuda

// sizes: K, rows and channels in, rows and channels out, precision.
extern "C" __attribute__((visibility("default"))) const char* run(bool halves, const int64_t* sizes,
                                                                  void* const* arrays,
                                                                  const int32_t* map, float* dw,
                                                                  void* workspace, int32_t* fault) {
  using namespace uov::cuda;
  return error_of([&] {
    if (halves) {
      run_products<uov::bfloat16>(sizes, arrays, map, dw, workspace, fault);
    } else {
      run_products<float>(sizes, arrays, map, dw, workspace, fault);
    }
  });
}
