// 8 x 32 tiles of a product, whose rows lie anywhere: their addresses fill the integer registers.
// 12 x 32 tiles of a weight gradient: 24 accumulators, 2 columns and broadcasts fill the 32 vector
// registers.
#define UOV_LANES 16
#define UOV_PRODUCT_ROWS 8
#define UOV_OUTER_ROWS 12
#define UOV_TILE_VECTORS 2
#define UOV_KERNEL_NAMESPACE avx512
#include <immintrin.h>

#include "core/kernel_tables.h"

namespace uov {
namespace avx512 {
int existing_pairs(const int* entries, int count, int rows, int* target, int* source) {
  const __m512i bound = _mm512_set1_epi32(rows);
  __m512i position = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  unsigned beyond = 0;
  int found = 0;
  for (int n = 0; n < count; n += 16) {
    const __mmask16 here = count - n < 16 ? (1u << (count - n)) - 1 : 0xffff;
    const __m512i entry = _mm512_mask_loadu_epi32(bound, here, entries + n);
    const __mmask16 exists = _mm512_mask_cmpge_epi32_mask(here, entry, _mm512_setzero_si512());
    beyond |= _mm512_mask_cmpge_epi32_mask(here, entry, bound);
    // To a register first: straight to memory it is microcode on some processors.
    _mm512_storeu_si512(target + found, _mm512_maskz_compress_epi32(exists, position));
    _mm512_storeu_si512(source + found, _mm512_maskz_compress_epi32(exists, entry));
    found += __builtin_popcount(exists);
    position = _mm512_add_epi32(position, _mm512_set1_epi32(16));
  }
  return beyond ? -1 : found;
}

const Kernels kernels = {"avx512", existing_pairs, &float_rows, &bfloat16_rows, view_table()};
}  // namespace avx512
}  // namespace uov
