// gather_gemm of float32 rows on tensor cores, as TF32.
#include "cuda/gather_gemm_kernel.h"

namespace uov::cuda {

void gather_gemm_tf32(Stream stream, const GatherGemm<float>& g, int tile, bool transposed) {
  launch_gather_gemm<TensorCoreTf32>(stream, g, tile, transposed);
}

}  // namespace uov::cuda
