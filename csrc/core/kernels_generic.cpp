// Portable vector types of four lanes: SSE2, NEON or what the compiler makes of them.
#define UOV_LANES 4
#define UOV_TILE_ROWS 4
#define UOV_TILE_VECTORS 2
#define UOV_KERNEL_NAMESPACE generic
#include "core/microkernel.h"

namespace uov {
namespace generic {
const Kernels kernels = {"generic", kTileColumns, product, outer};
}
}  // namespace uov
