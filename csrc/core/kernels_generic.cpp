// Portable vector types of four lanes: SSE2, NEON or what the compiler makes of them.
#define UOV_LANES 4
#define UOV_PRODUCT_ROWS 4
#define UOV_OUTER_ROWS 4
#define UOV_TILE_VECTORS 2
#define UOV_KERNEL_NAMESPACE generic
#include "core/kernel_tables.h"

namespace uov {
namespace generic {

int existing_pairs(const int* entries, int count, int rows, int* target, int* source) {
  int found = 0;
  bool beyond = false;
  for (int n = 0; n < count; ++n) {
    // Written always, kept only if it exists: no branch to mispredict.
    target[found] = n;
    source[found] = entries[n];
    found += entries[n] >= 0;
    beyond |= entries[n] >= rows;
  }
  return beyond ? -1 : found;
}

const Kernels kernels = {"generic", existing_pairs, &float_rows, &bfloat16_rows, view_table()};
}  // namespace generic
}  // namespace uov
