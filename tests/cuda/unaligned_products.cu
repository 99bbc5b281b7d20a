// Products of arrays that do not begin where 16 bytes may move at once, as slices of others may
// not. XLA's own arrays begin at multiples of 64 bytes: calls through it cannot reach this.
#include <cstdint>

#include "cuda/gather_gemm.h"
#include "cuda/gather_gemm_dw.h"
#include "device_copy.h"

namespace uov::cuda {
namespace {

template <typename T>
void run_products(const int64_t* sizes, void* const* arrays, const int32_t* map, void* workspace,
                  int32_t* fault) {
  const GatherGemmShape shape{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]};
  const auto precision = static_cast<Precision>(sizes[5]);
  auto rows = [&](int i) { return static_cast<T*>(arrays[i]); };
  auto floats = [&](int i) { return static_cast<float*>(arrays[i]); };
  T *const x = rows(0), *const w = rows(1), *const dy = rows(2), *const shortcut = rows(3);
  const auto count = static_cast<int32_t>(shape.rows_out - 3);
  const RowAffine<T> after{floats(4), floats(5), floats(6), shortcut, &count, true};
  gather_gemm<T>(Stream{}, shape, {}, precision, x, w, map, {}, nullptr, rows(7), workspace, fault);
  gather_gemm<T>(Stream{}, shape, {}, precision, x, w, map, {}, &after, rows(8), workspace, fault);
  gather_gemm_dw<T>(Stream{}, shape, precision, x, dy, map, {}, floats(9), workspace, fault);
}

}  // namespace
}  // namespace uov::cuda

// sizes: K, rows and channels in, rows and channels out, precision. arrays: x, w, dy, shortcut,
// mean, scale, bias; y, y with the norm, dw.
extern "C" __attribute__((visibility("default"))) const char* run(bool halves, const int64_t* sizes,
                                                                  void* const* arrays,
                                                                  const int32_t* map,
                                                                  void* workspace, int32_t* fault) {
  using namespace uov::cuda;
  return error_of([&] {
    if (halves) {
      run_products<uov::bfloat16>(sizes, arrays, map, workspace, fault);
    } else {
      run_products<float>(sizes, arrays, map, workspace, fault);
    }
  });
}
