// The dense inner kernels behind gather_gemm, one table per instruction set, chosen at run time.
#pragma once

namespace uov {

struct bfloat16;

// Floats between the rows of a panel. A panel holds at most kPanelChannels channels of a row; the
// 16 floats more keep rows from falling onto the same cache sets, and give tiles that read past
// the last channel room to do so.
inline constexpr int kPanelChannels = 128;
inline constexpr int kPanelStride = kPanelChannels + 16;
// 96 rows x 144 floats = 54 KiB: stays in the second-level cache, and 96 divides by every tile.
inline constexpr int kPanelRows = 96;

// Numbers that existing_pairs may write past the last.
inline constexpr int kSpare = 16;

struct Kernels {
  const char* name;
  int tile_columns;  // columns of one packed slab of weights

  // y[target[i]] += panel[i] @ w for i < rows, or = without `add`. `panel` is [rows, kPanelStride]
  // of which `depth` channels count; `packed` holds w in slabs [depth, tile_columns], zero beyond
  // `columns`.
  void (*product)(const float* panel, int rows, int depth, const float* packed, int columns,
                  float* y, const int* target, long y_stride, bool add);

  // The entries of a map that are not negative: their positions to `target`, they themselves to
  // `source`, in order; both have room for `count` + kSpare numbers. Returns how many, or -1 where
  // one is `rows` or more.
  int (*existing_pairs)(const int* entries, int count, int rows, int* target, int* source);

  // panel[i] = the `depth` numbers from x[rows[i] * stride] on, i < count, as floats.
  void (*copy_rows)(const float* x, long stride, const int* rows, int count, int depth,
                    float* panel);
  void (*copy_bfloat16_rows)(const bfloat16* x, long stride, const int* rows, int count, int depth,
                             float* panel);

  // sum = the sum of the rows x[rows[i]] of `channels` numbers, i < count, in this order; zeros for
  // none. `known` >= count entries of `rows` are there: those past `count` are wanted next.
  void (*sum_rows)(const float* x, long channels, const int* rows, long count, long known,
                   float* sum);
  void (*sum_bfloat16_rows)(const bfloat16* x, long channels, const int* rows, long count,
                            long known, float* sum);

  // c += a^T @ b over `pairs` rows of two panels, or = without `add`.
  void (*outer)(const float* a, int a_columns, const float* b, int b_columns, int pairs, float* c,
                long c_stride, bool add);

  // One slab of packed weights [depth, tile_columns] from float32 numbers: its entry (d, j) is
  // w[d * stride + j], or w[j * stride + d] of pack_transposed, and zero from column `columns` on.
  void (*pack)(const float* w, long stride, int depth, int columns, float* slab);
  void (*pack_transposed)(const float* w, long stride, int depth, int columns, float* slab);
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

// The row functions of a table by the type of their rows.
inline void copy_rows(const Kernels& kernels, const float* x, long stride, const int* rows,
                      int count, int depth, float* panel) {
  kernels.copy_rows(x, stride, rows, count, depth, panel);
}
inline void copy_rows(const Kernels& kernels, const bfloat16* x, long stride, const int* rows,
                      int count, int depth, float* panel) {
  kernels.copy_bfloat16_rows(x, stride, rows, count, depth, panel);
}
inline void sum_rows(const Kernels& kernels, const float* x, long channels, const int* rows,
                     long count, long known, float* sum) {
  kernels.sum_rows(x, channels, rows, count, known, sum);
}
inline void sum_rows(const Kernels& kernels, const bfloat16* x, long channels, const int* rows,
                     long count, long known, float* sum) {
  kernels.sum_bfloat16_rows(x, channels, rows, count, known, sum);
}

// The best table this processor can run; UOV_INSTRUCTION_SET=generic|avx2|avx512 in the
// environment asks for a lesser one (an impossible wish throws std::runtime_error).
const Kernels& kernels();

}  // namespace uov
