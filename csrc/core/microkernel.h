// Register-tiled matrix products on small contiguous panels, compiled once per instruction set.
//
// Included by kernel_tables.h. Nothing from the standard library is used here: an inline function
// compiled with AVX-512 could otherwise be the copy that the linker keeps for everyone.
#pragma once

#include "core/kernels.h"

namespace uov {
namespace UOV_KERNEL_NAMESPACE {

constexpr int kLanes = UOV_LANES;
constexpr int kTileRows = UOV_TILE_ROWS;
constexpr int kTileVectors = UOV_TILE_VECTORS;
constexpr int kTileColumns = kLanes * kTileVectors;

typedef float Vector __attribute__((vector_size(UOV_LANES * 4)));
typedef float UnalignedVector __attribute__((vector_size(UOV_LANES * 4), aligned(4), may_alias));

inline Vector load(const float* p) { return *reinterpret_cast<const UnalignedVector*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<UnalignedVector*>(p) = v; }

// bfloat16 numbers are the upper halves of floats.
typedef unsigned short Half __attribute__((may_alias));
typedef unsigned short UnalignedHalves
    __attribute__((vector_size(UOV_LANES * 2), aligned(2), may_alias));
typedef unsigned Bits __attribute__((vector_size(UOV_LANES * 4)));
inline Vector load(const Half* p) {
  return (Vector)(__builtin_convertvector(*reinterpret_cast<const UnalignedHalves*>(p), Bits)
                  << 16);
}
inline float load_one(const float* p) { return *p; }
inline float load_one(const Half* p) {
  const unsigned bits = static_cast<unsigned>(*p) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

// Rows as they are looked at here. bfloat16.h has inline functions, so it is not included.
inline const float* stored(const float* p) { return p; }
inline const Half* stored(const bfloat16* p) { return reinterpret_cast<const Half*>(p); }

#ifdef UOV_BFLOAT16_PAIRS
inline Vector add_product(Vector sum, float value, Vector column) {
  return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)column, (__m512bh)_mm512_set1_ps(value));
}
#else
inline Vector add_product(Vector sum, float value, Vector column) { return sum + value * column; }
#endif

// acc[i][v] = sum_d a(i, d) * b(d, v): a(i, d) is a[i * ROW + d * STEP]. ROW and STEP are
// compile-time constants, so that all rows are addressed from one pointer: with run-time strides
// the addresses of the rows spill out of the integer registers and halve the rate.
template <int ROWS, int VECTORS, int ROW, int STEP>
inline void multiply_tile(const float* a, const float* b, int depth, int b_stride,
                          Vector (&acc)[ROWS][VECTORS]) {
  for (int d = 0; d < depth; ++d) {
    Vector column[VECTORS];
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) column[v] = load(b + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
      const float value = a[i * ROW];
#pragma GCC unroll 8
      for (int v = 0; v < VECTORS; ++v) acc[i][v] = add_product(acc[i][v], value, column[v]);
    }
    a += STEP;
    b += b_stride;
  }
}

// c += acc, or c = acc, on the first `columns` columns.
template <bool ADD, int VECTORS>
inline void write_row(float* c, const Vector (&acc)[VECTORS], int columns) {
  if (columns >= VECTORS * kLanes) {
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) {
      store(c + v * kLanes, ADD ? load(c + v * kLanes) + acc[v] : acc[v]);
    }
    return;
  }
  for (int j = 0; j < columns; ++j) {
    c[j] = ADD ? c[j] + acc[j / kLanes][j % kLanes] : acc[j / kLanes][j % kLanes];
  }
}

// Rows of the product a [ROWS, depth] x b [depth, columns] to the rows of y at `target`.
template <bool ADD, int ROWS, int VECTORS>
void product_tile(const float* a, const float* b, int depth, float* y, const int* target,
                  long y_stride, int columns) {
  // The rows of y arrive while the product runs.
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) __builtin_prefetch(y + target[i] * y_stride, 1);
  Vector acc[ROWS][VECTORS] = {};
  multiply_tile<ROWS, VECTORS, kPanelStride, 1>(a, b, depth, kTileColumns, acc);
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
    write_row<ADD, VECTORS>(y + target[i] * y_stride, acc[i], columns);
  }
}

// The product a^T [ROWS, pairs] x b [pairs, columns] to `ROWS` rows of c.
template <bool ADD, int ROWS, int VECTORS>
void outer_tile(const float* a, const float* b, int pairs, float* c, long c_stride, int columns) {
  Vector acc[ROWS][VECTORS] = {};
  multiply_tile<ROWS, VECTORS, 1, kPanelStride>(a, b, pairs, kPanelStride, acc);
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) write_row<ADD, VECTORS>(c + i * c_stride, acc[i], columns);
}

// Calls the tile function for `rows` (1..kTileRows) at compile-time size.
template <int ROWS>
struct Remainder {
  template <bool ADD>
  static void product(int rows, const float* a, const float* b, int depth, float* y,
                      const int* target, long y_stride, int columns) {
    if (rows < ROWS) {
      Remainder<ROWS - 1>::template product<ADD>(rows, a, b, depth, y, target, y_stride, columns);
    } else if (columns <= kLanes) {
      product_tile<ADD, ROWS, 1>(a, b, depth, y, target, y_stride, columns);
    } else {
      product_tile<ADD, ROWS, kTileVectors>(a, b, depth, y, target, y_stride, columns);
    }
  }
  template <bool ADD>
  static void outer(int rows, const float* a, const float* b, int pairs, float* c, long c_stride,
                    int columns) {
    if (rows < ROWS) {
      Remainder<ROWS - 1>::template outer<ADD>(rows, a, b, pairs, c, c_stride, columns);
    } else if (columns <= kLanes) {
      outer_tile<ADD, ROWS, 1>(a, b, pairs, c, c_stride, columns);
    } else {
      outer_tile<ADD, ROWS, kTileVectors>(a, b, pairs, c, c_stride, columns);
    }
  }
};
template <>
struct Remainder<0> {
  template <bool ADD>
  static void product(int, const float*, const float*, int, float*, const int*, long, int) {}
  template <bool ADD>
  static void outer(int, const float*, const float*, int, float*, long, int) {}
};

inline int smaller(int a, int b) { return a < b ? a : b; }

#ifdef UOV_BFLOAT16_PAIRS
// Pairs of the numbers at a and b, of which b may be missing: then they are paired with zeros.
inline void pair_up(const Half* a, const Half* b, int count, float* to) {
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Bits low = (Bits)load(a + i) >> 16;
    store(to + i, b == nullptr ? (Vector)low : (Vector)(low | (Bits)load(b + i)));
  }
  for (; i < count; ++i) {
    const unsigned word = a[i] | (b == nullptr ? 0u : static_cast<unsigned>(b[i]) << 16);
    __builtin_memcpy(to + i, &word, sizeof(word));
  }
}

// The pair that starts at p, or its first number and a zero.
inline float pair_at(const Half* p, bool both) {
  float word = 0.0f;
  __builtin_memcpy(&word, p, both ? 4 : 2);
  return word;
}

void copy_rows(const bfloat16* x, long stride, const int* rows, int count, int depth,
               float* panel) {
  for (int i = 0; i < count; ++i) {
    const Half* from = stored(x) + rows[i] * stride;
    float* to = panel + i * kPanelStride;
    int d = 0;
    for (; d + 2 * kLanes <= depth; d += 2 * kLanes) {
      store(to + d / 2, load(reinterpret_cast<const float*>(from + d)));
    }
    for (; d < depth; d += 2) to[d / 2] = pair_at(from + d, d + 1 < depth);
  }
}

void copy_factor(const bfloat16* x, long stride, const int* rows, int count, int depth,
                 float* panel) {
  for (int i = 0; i < count; i += 2) {
    const Half* second = i + 1 < count ? stored(x) + rows[i + 1] * stride : nullptr;
    pair_up(stored(x) + rows[i] * stride, second, depth, panel + i / 2 * kPanelStride);
  }
}
#else
template <typename T>
void copy_rows(const T* x, long stride, const int* rows, int count, int depth, float* panel) {
  for (int i = 0; i < count; ++i) {
    const auto* from = stored(x) + rows[i] * stride;
    float* to = panel + i * kPanelStride;
    int d = 0;
    for (; d + kLanes <= depth; d += kLanes) store(to + d, load(from + d));
    for (; d < depth; ++d) to[d] = load_one(from + d);
  }
}
#endif

// sum = [sum +] a [+ b], while a row that comes later is fetched from memory.
template <bool ADD, bool TWO, typename T>
inline void add_to_sum(const T* a, const T* b, const T* later, long channels, float* sum) {
  long c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    __builtin_prefetch(later + c);
    Vector total = load(a + c);
    if (ADD) total = load(sum + c) + total;
    if (TWO) total += load(b + c);
    store(sum + c, total);
  }
  for (; c < channels; ++c) {
    float total = load_one(a + c);
    if (ADD) total = sum[c] + total;
    if (TWO) total += load_one(b + c);
    sum[c] = total;
  }
}

template <typename T>
void sum_rows(const T* x, long channels, const int* rows, long count, long known, float* sum) {
  if (count == 0) {
    for (long c = 0; c < channels; ++c) sum[c] = 0.0f;
    return;
  }
  auto row = [&](long i) { return stored(x) + (i < known ? rows[i] : rows[0]) * channels; };
  long i = count % 2 == 0 ? 2 : 1;
  if (i == 2) {
    add_to_sum<false, true>(row(0), row(1), row(2), channels, sum);
  } else {
    add_to_sum<false, false>(row(0), row(0), row(1), channels, sum);
  }
  for (; i < count; i += 2) {
    add_to_sum<true, true>(row(i), row(i + 1), row(i + 2), channels, sum);
  }
}

template <bool ADD>
void product_panel(const float* panel, int rows, int words, const float* packed, int columns,
                   float* y, const int* target, long y_stride) {
  for (int j = 0; j < columns; j += kTileColumns) {
    const float* b = packed + static_cast<long>(j) * words;
    const int width = smaller(kTileColumns, columns - j);
    for (int i = 0; i < rows; i += kTileRows) {
      Remainder<kTileRows>::template product<ADD>(smaller(kTileRows, rows - i),
                                                  panel + i * kPanelStride, b, words, y + j,
                                                  target + i, y_stride, width);
    }
  }
}

void product(const float* panel, int rows, int words, const float* packed, int columns, float* y,
             const int* target, long y_stride, bool add) {
  if (add) {
    product_panel<true>(panel, rows, words, packed, columns, y, target, y_stride);
  } else {
    product_panel<false>(panel, rows, words, packed, columns, y, target, y_stride);
  }
}

template <bool ADD>
void outer_panel(const float* a, int a_columns, const float* b, int b_columns, int rows, float* c,
                 long c_stride) {
  for (int j = 0; j < b_columns; j += kTileColumns) {
    const int width = smaller(kTileColumns, b_columns - j);
    for (int i = 0; i < a_columns; i += kTileRows) {
      Remainder<kTileRows>::template outer<ADD>(smaller(kTileRows, a_columns - i), a + i, b + j,
                                                rows, c + i * c_stride + j, c_stride, width);
    }
  }
}

void outer(const float* a, int a_columns, const float* b, int b_columns, int pairs, float* c,
           long c_stride, bool add) {
#ifdef UOV_BFLOAT16_PAIRS
  const int rows = (pairs + 1) / 2;
#else
  const int rows = pairs;
#endif
  if (add) {
    outer_panel<true>(a, a_columns, b, b_columns, rows, c, c_stride);
  } else {
    outer_panel<false>(a, a_columns, b, b_columns, rows, c, c_stride);
  }
}

#ifdef UOV_BFLOAT16_PAIRS
void pack(const bfloat16* w, long stride, int depth, int columns, float* slab) {
  const Half* row = stored(w);
  for (int d = 0; d < depth; d += 2, row += 2 * stride, slab += kTileColumns) {
    pair_up(row, d + 1 < depth ? row + stride : nullptr, columns, slab);
    for (int j = columns; j < kTileColumns; ++j) slab[j] = 0.0f;
  }
}
#else
template <typename T>
void pack(const T* w, long stride, int depth, int columns, float* slab) {
  const auto* row = stored(w);
  for (int d = 0; d < depth; ++d, row += stride, slab += kTileColumns) {
    if (columns == kTileColumns) {
#pragma GCC unroll 8
      for (int v = 0; v < kTileVectors; ++v) store(slab + v * kLanes, load(row + v * kLanes));
    } else {
      for (int j = 0; j < kTileColumns; ++j) slab[j] = j < columns ? load_one(row + j) : 0.0f;
    }
  }
}
#endif

// The first, or from kLanes / 2 on the second, halves of two vectors, interleaved.
template <int FIRST>
inline Vector interleave(Vector a, Vector b) {
#define UOV_PAIR(i) FIRST + (i), FIRST + (i) + kLanes
#if UOV_LANES == 4
  return __builtin_shufflevector(a, b, UOV_PAIR(0), UOV_PAIR(1));
#elif UOV_LANES == 8
  return __builtin_shufflevector(a, b, UOV_PAIR(0), UOV_PAIR(1), UOV_PAIR(2), UOV_PAIR(3));
#else
  return __builtin_shufflevector(a, b, UOV_PAIR(0), UOV_PAIR(1), UOV_PAIR(2), UOV_PAIR(3),
                                 UOV_PAIR(4), UOV_PAIR(5), UOV_PAIR(6), UOV_PAIR(7));
#endif
#undef UOV_PAIR
}

// Transposes a square of kLanes vectors: each round interleaves the first with the second half.
inline void transpose(Vector (&square)[kLanes]) {
  for (int round = 1; round < kLanes; round *= 2) {
    Vector next[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = interleave<0>(square[i], square[i + kLanes / 2]);
      next[2 * i + 1] = interleave<kLanes / 2>(square[i], square[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) square[i] = next[i];
  }
}

// Words of a row of stored weights, and how many numbers one of them holds.
#ifdef UOV_BFLOAT16_PAIRS
constexpr int kChannelsPerWord = 2;
inline Vector load_words(const Half* p) { return load(reinterpret_cast<const float*>(p)); }
inline float load_word(const Half* p, bool whole) { return pair_at(p, whole); }
#else
constexpr int kChannelsPerWord = 1;
template <typename T>
inline Vector load_words(const T* p) {
  return load(p);
}
template <typename T>
inline float load_word(const T* p, bool) {
  return load_one(p);
}
#endif

template <typename T>
void pack_transposed(const T* w, long stride, int depth, int columns, float* slab) {
  constexpr int kStep = kChannelsPerWord;
  for (int j = 0; j < kTileColumns; j += kLanes) {
    const int width = smaller(kLanes, columns - j);
    const auto* row = stored(w) + j * stride;
    float* to = slab + j;
    int d = 0;
    if (width == kLanes) {
      for (; d + kStep * kLanes <= depth; d += kStep * kLanes) {
        Vector square[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) square[i] = load_words(row + i * stride + d);
        transpose(square);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) store(to + (d / kStep + i) * kTileColumns, square[i]);
      }
    }
    for (; d < depth; d += kStep) {
      for (int i = 0; i < kLanes; ++i) {
        to[d / kStep * kTileColumns + i] =
            i < width ? load_word(row + i * stride + d, d + kStep <= depth) : 0.0f;
      }
    }
  }
}

}  // namespace UOV_KERNEL_NAMESPACE
}  // namespace uov
