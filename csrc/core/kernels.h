// The dense inner kernels behind gather_gemm, one table per instruction set, chosen at run time.
#pragma once

namespace uov {

struct bfloat16;

// Panels and packed weights are made of words of 32 bits: a float32 number each, or two bfloat16
// numbers where the processor multiplies those itself.
//
// At most kPanelWords words of a row are multiplied at a time: their weights, a slab of at most 32
// KiB, stay in the first-level cache.
inline constexpr int kPanelWords = 256;
// Words from row to row of a panel beyond those that count: they keep rows from falling onto the
// same cache sets, and give tiles that read past the last word room to do so, up to twice as many.
inline constexpr int kPanelSpare = 16;
// Rows of a product that pass over one slab: at most 96 x 1 KiB of x, which stay in the
// second-level cache for the next slab, and 96 divides by every tile.
inline constexpr int kPanelRows = 96;

// Numbers that existing_pairs may write past the last.
inline constexpr int kSpare = 16;

// Rows of words that lie anywhere: row i is at words + index[i] * stride.
struct Rows {
  const float* words;
  long stride;
  const int* index;
};

// Kernels on rows of T, float or bfloat16, by what they are for: each table fills them by name, see
// kernel_tables.h. Sums are float32.
template <typename T>
struct RowKernels {
  int tile_columns;       // columns of one packed slab of weights
  int channels_per_word;  // 1, or 2 for pairs of bfloat16 numbers

  int words(long channels) const {
    return static_cast<int>((channels + channels_per_word - 1) / channels_per_word);
  }

  struct Copy {
    // Rows of `channels` numbers that follow each other as rows of `words(channels)` words, for
    // `multiply.rows`.
    void (*rows)(const T* x, long rows, long channels, float* words);
    // Into a panel for `multiply.outer`: row i = the `depth` numbers from x[rows[i] * stride] on,
    // i < count. Where a word holds two numbers, they are one channel of two rows that follow each
    // other, and the panel has half as many rows. Null where words hold one number and rows are not
    // words: those are multiplied as the words of `rows`.
    void (*factor)(const T* x, long stride, const int* rows, int count, int depth, float* panel,
                   long panel_stride);
  } copy;

  // One slab of packed weights [words of depth, tile_columns], zero from column `columns` on.
  struct Pack {
    // Its entry (d, j) is w[d * stride + j].
    void (*as_stored)(const T* w, long stride, int depth, int columns, float* slab);
    // Its entry (d, j) is w[j * stride + d].
    void (*transposed)(const T* w, long stride, int depth, int columns, float* slab);
  } pack;

  struct Multiply {
    // y[target[i]] += x[i] @ w for i < rows, or = without `add`: the first `words` words of x's
    // rows count, `packed` holds the `columns` columns of w in slabs. `following` rows come after
    // them in the index of x, and are wanted next.
    void (*rows)(const Rows& x, int rows, int following, int words, const float* packed,
                 int columns, float* y, const int* target, long y_stride, bool add);
    // c += a^T @ b over `rows` rows of words of two factors, or = without `add`. Rows of b are read
    // up to a whole number of tile_columns. Where there is no index, and then for neither, rows
    // follow each other; else `following` <= rows more come after them in both indices, and are
    // wanted next.
    void (*outer)(const Rows& a, int a_columns, const Rows& b, int b_columns, int rows,
                  int following, float* c, long c_stride, bool add);
  } multiply;

  struct Sum {
    // sum = the sum of the rows x[rows[i]] of `channels` numbers, i < count, in this order; zeros
    // for none. `known` >= count entries of `rows` are there: those past `count` are wanted next.
    void (*rows)(const T* x, long channels, const int* rows, long count, long known, float* sum);
    // y = sums, `stride` being the steps from row to row.
    void (*round)(const float* sums, long sums_stride, long rows, long channels, T* y, long stride);
  } sum;

  // Batch norm (norm.h). `stride` and the like are the steps from row to row; where there is none,
  // rows are `channels` apart.
  struct Norm {
    // sum += every row.
    void (*add_rows)(const T* x, long stride, long rows, long channels, float* sum);
    // sum += the squares of the rows' distances from `mean`.
    void (*add_squares)(const T* x, long stride, long rows, long channels, const float* mean,
                        float* sum);
    // y = (x - mean) * scale + bias [+ shortcut], then the ReLU if asked for; `shortcut` may be
    // null and has y's stride, `y` may be `x`.
    void (*affine)(const T* x, long x_stride, long rows, long channels, const float* mean,
                   const float* scale, const float* bias, const T* shortcut, bool relu, T* y,
                   long stride);
    // The same of float32 sums.
    void (*affine_of_sums)(const float* x, long x_stride, long rows, long channels,
                           const float* mean, const float* scale, const float* bias,
                           const T* shortcut, bool relu, T* y, long stride);
    // Adds g and g * (x - mean) of every row: g = dy where y > 0 or `y` is null, else zero.
    void (*add_gradients)(const T* dy, const T* y, const T* x, long rows, long channels,
                          const float* mean, float* sum, float* sum_deviation);
    // dx = (g - offset - (x - mean) * slope) * scale, and dshortcut = g unless that is null.
    void (*gradient)(const T* dy, const T* y, const T* x, long rows, long channels,
                     const float* mean, const float* offset, const float* slope, const float* scale,
                     T* dx, T* dshortcut);
  } norm;
};

struct Kernels {
  const char* name;

  // The entries of a map that are not negative: their positions to `target`, they themselves to
  // `source`, in order; both have room for `count` + kSpare numbers. Returns how many, or -1 where
  // one is `rows` or more.
  int (*existing_pairs)(const int* entries, int count, int rows, int* target, int* source);

  const RowKernels<float>* of_float;
  const RowKernels<bfloat16>* of_bfloat16;

  // What view_features.h adds; see view_rows.h.
  struct View {
    // y = the numbers of n halves, given by their bits; whether all are finite.
    bool (*widen_halves)(const unsigned short* x, long n, float* y);
    // sums[target[i]] += x[cell[i]], i < n: rows of `channels` numbers, `stride` from row to row.
    void (*add_cells)(const float* x, long x_stride, const int* cell, long n, long channels,
                      float* sums, long stride, const int* target);
    // The same of the sum of four cells by their weights; `cell` and `weight` are [n, 4].
    void (*add_mixtures)(const float* x, long x_stride, const int* cell, const float* weight,
                         long n, long channels, float* sums, long stride, const int* target);
  } view;
};

namespace generic {
extern const Kernels kernels;
}
// Those of x86 processors that the compiler could make (setup.py).
#ifdef UOV_AVX2
namespace avx2 {
extern const Kernels kernels;
}
#endif
#ifdef UOV_AVX512
namespace avx512 {
extern const Kernels kernels;
}
#endif
#ifdef UOV_AVX512_BF16
namespace avx512_bf16 {
extern const RowKernels<bfloat16> bfloat16_rows;
}
#endif

// The table in use: see kernel_choice.h.
const Kernels& kernels();

// Names of the tables for this kind of processor that the compiler could not make, a space before
// each.
const char* kernels_left_out();

// Its functions for rows of T.
template <typename T>
const RowKernels<T>& row_kernels();
template <>
inline const RowKernels<float>& row_kernels<float>() {
  return *kernels().of_float;
}
template <>
inline const RowKernels<bfloat16>& row_kernels<bfloat16>() {
  return *kernels().of_bfloat16;
}

}  // namespace uov
