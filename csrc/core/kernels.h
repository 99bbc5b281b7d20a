// The dense inner kernels behind gather_gemm, one table per instruction set, chosen at run time.
#pragma once

namespace uov {

// Floats between the rows of a panel. A panel holds at most kPanelChannels channels of a row; the
// 16 floats more keep rows from falling onto the same cache sets, and give tiles that read past
// the last channel room to do so.
inline constexpr int kPanelChannels = 128;
inline constexpr int kPanelStride = kPanelChannels + 16;
// 96 rows x 144 floats = 54 KiB: stays in the second-level cache, and 96 divides by every tile.
inline constexpr int kPanelRows = 96;

struct Kernels {
  const char* name;
  int tile_columns;  // columns of one packed slab of weights

  // y[target[i]] += panel[i] @ w for i < rows, or = without `add`. `panel` is [rows, kPanelStride]
  // of which `depth` channels count; `packed` holds w in slabs [depth, tile_columns], zero beyond
  // `columns`.
  void (*product)(const float* panel, int rows, int depth, const float* packed, int columns,
                  float* y, const int* target, long y_stride, bool add);

  // c += a^T @ b over `pairs` rows of two panels.
  void (*outer)(const float* a, int a_columns, const float* b, int b_columns, int pairs, float* c,
                long c_stride);
};

namespace generic {
extern const Kernels kernels;
}
#ifdef UOV_X86
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
#endif

// The best table this processor can run; UOV_INSTRUCTION_SET=generic|avx2|avx512 in the
// environment asks for a lesser one (an impossible wish throws std::runtime_error).
const Kernels& kernels();

}  // namespace uov
