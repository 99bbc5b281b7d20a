// gather_gemm on tensor cores, as bfloat16.
#include "cuda/gather_gemm_kernel.h"

namespace uov::cuda {

void gather_gemm_bfloat16(Stream stream, const GatherGemm<bfloat16>& g, int tile, bool transposed) {
  launch_gather_gemm<TensorCoreBfloat16>(stream, g, tile, transposed);
}

void gather_gemm_bfloat16(Stream stream, const GatherGemm<float>& g, int tile, bool transposed) {
  launch_gather_gemm<TensorCoreBfloat16>(stream, g, tile, transposed);
}

}  // namespace uov::cuda
