// 6 x 16 tiles of both: 12 accumulators, 2 columns and a broadcast fill the 16 AVX registers.
#define UOV_LANES 8
#define UOV_PRODUCT_ROWS 6
#define UOV_OUTER_ROWS 6
#define UOV_TILE_VECTORS 2
#define UOV_KERNEL_NAMESPACE avx2
#include <immintrin.h>

#include "core/kernel_tables.h"

namespace uov {
namespace avx2 {
namespace {

// Lane i of entry `mask` is the position of the i-th set bit of mask.
struct Compression {
  int lanes[256][8];
  constexpr Compression() : lanes() {
    for (int mask = 0; mask < 256; ++mask) {
      int found = 0;
      for (int bit = 0; bit < 8; ++bit) {
        if (mask >> bit & 1) lanes[mask][found++] = bit;
      }
    }
  }
};
constexpr Compression kCompression;

}  // namespace

int existing_pairs(const int* entries, int count, int rows, int* target, int* source) {
  const __m256i last = _mm256_set1_epi32(rows - 1);
  __m256i position = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  __m256i beyond = _mm256_setzero_si256();
  int found = 0, n = 0;
  for (; n + 8 <= count; n += 8) {
    const __m256i entry = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(entries + n));
    beyond = _mm256_or_si256(beyond, _mm256_cmpgt_epi32(entry, last));
    // The sign bit says that there is none.
    const int exists = ~_mm256_movemask_ps(_mm256_castsi256_ps(entry)) & 0xff;
    const __m256i lanes =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kCompression.lanes[exists]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + found),
                        _mm256_permutevar8x32_epi32(position, lanes));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(source + found),
                        _mm256_permutevar8x32_epi32(entry, lanes));
    found += __builtin_popcount(exists);
    position = _mm256_add_epi32(position, _mm256_set1_epi32(8));
  }
  bool refused = !_mm256_testz_si256(beyond, beyond);
  for (; n < count; ++n) {
    target[found] = n;
    source[found] = entries[n];
    found += entries[n] >= 0;
    refused |= entries[n] >= rows;
  }
  return refused ? -1 : found;
}

const Kernels kernels = {"avx2", existing_pairs, &float_rows, &bfloat16_rows, view_table()};
}  // namespace avx2
}  // namespace uov
