// 6 x 16 tiles: 12 accumulators, 2 columns and a broadcast fill the 16 AVX registers.
#define UOV_LANES 8
#define UOV_TILE_ROWS 6
#define UOV_TILE_VECTORS 2
#define UOV_KERNEL_NAMESPACE avx2
#include "core/microkernel.h"

namespace uov {
namespace avx2 {
const Kernels kernels = {"avx2", kTileColumns, product, outer};
}
}  // namespace uov
