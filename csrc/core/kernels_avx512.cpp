// 12 x 32 tiles: 24 accumulators, 2 columns and broadcasts from memory fill the 32 registers.
#define UOV_LANES 16
#define UOV_TILE_ROWS 12
#define UOV_TILE_VECTORS 2
#define UOV_KERNEL_NAMESPACE avx512
#include "core/microkernel.h"

namespace uov {
namespace avx512 {
const Kernels kernels = {"avx512", kTileColumns, product, outer};
}
}  // namespace uov
