// Products of pairs of bfloat16 numbers: twice as many multiplications in an instruction, which
// adds them in float32. Tiles as of AVX-512.
#define UOV_LANES 16
#define UOV_PRODUCT_ROWS 8
#define UOV_OUTER_ROWS 12
#define UOV_TILE_VECTORS 2
#define UOV_KERNEL_NAMESPACE avx512_bf16
#define UOV_BFLOAT16_PAIRS
#include <immintrin.h>

#include "core/kernel_tables.h"
