// gather_gemm without tensor cores.
#include "cuda/gather_gemm_kernel.h"

namespace uov::cuda {

void gather_gemm_float32(Stream stream, const GatherGemm<float>& g, int tile, bool transposed) {
  launch_gather_gemm<PlainFloat32>(stream, g, tile, transposed);
}

}  // namespace uov::cuda
