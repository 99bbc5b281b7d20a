// The row ops on arrays that do not begin where the widest loads may, as slices of others may not.
// XLA's own arrays begin at multiples of 64 bytes: calls through it cannot reach this.
#include <cstdint>
#include <stdexcept>
#include <string>

#include "cuda/norm.h"
#include "cuda/rows.h"
#include "device_copy.h"

namespace uov::cuda {
namespace {

// `rows` rows of 8 float32 numbers; arrays in the order of the op's arguments, then its results.
void run_op(const std::string& op, float* const* a, int64_t rows, int32_t* index, int32_t* count,
            void* workspace, int32_t* fault) {
  constexpr int64_t kChannels = 8;
  const Stream stream{};
  if (op == "gather_rows") {
    gather_rows<float>(stream, a[0], rows, kChannels, index, rows, a[1], fault);
  } else if (op == "gather_scatter_rows") {
    gather_scatter_rows<float>(stream, a[0], rows, kChannels, nullptr, index, rows, a[1], rows,
                               workspace, fault);
  } else if (op == "unit_rows") {
    unit_rows(stream, a[0], rows, kChannels, count, a[1], a[2]);
  } else if (op == "unit_rows_gradient") {
    unit_rows_gradient(stream, a[0], a[1], a[2], rows, kChannels, count, a[3]);
  } else if (op == "column_moments") {
    column_moments<float>(stream, a[0], rows, kChannels, count, a[1], a[2], workspace);
  } else if (op == "affine_rows") {
    affine_rows<float>(stream, a[0], rows, kChannels, {a[1], a[2], a[3], a[4], count, true}, a[5]);
  } else if (op == "affine_gradient_sums") {
    affine_gradient_sums<float>(stream, a[0], a[1], a[2], rows, kChannels, a[3], count, a[4], a[5],
                                workspace);
  } else if (op == "affine_gradient_rows") {
    affine_gradient_rows<float>(stream, a[0], a[1], a[2], rows, kChannels, a[3], a[4], a[5], a[6],
                                count, a[7], a[8]);
  } else {
    throw std::invalid_argument("no op is called " + op);
  }
}

}  // namespace
}  // namespace uov::cuda

// Null, or what went wrong.
extern "C" __attribute__((visibility("default"))) const char* run(const char* op,
                                                                  float* const* arrays,
                                                                  int64_t rows, int32_t* index,
                                                                  int32_t* count, void* workspace,
                                                                  int32_t* fault) {
  return uov::cuda::error_of(
      [&] { uov::cuda::run_op(op, arrays, rows, index, count, workspace, fault); });
}
