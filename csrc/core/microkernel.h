// Register-tiled matrix products on rows that lie anywhere, compiled once per instruction set.
//
// Included by kernel_tables.h. Nothing from the standard library is used here: an inline function
// compiled with AVX-512 could otherwise be the copy that the linker keeps for everyone.
#pragma once

#include "core/kernels.h"

namespace uov {
namespace UOV_KERNEL_NAMESPACE {

constexpr int kLanes = UOV_LANES;
constexpr int kProductRows = UOV_PRODUCT_ROWS;
constexpr int kOuterRows = UOV_OUTER_ROWS;
constexpr int kTileVectors = UOV_TILE_VECTORS;
constexpr int kTileColumns = kLanes * kTileVectors;
constexpr int kLineFloats = 16;
static_assert(kTileColumns <= 2 * kPanelSpare, "a tile would read past the rows of a panel");

typedef float Vector __attribute__((vector_size(UOV_LANES * 4)));
typedef float UnalignedVector __attribute__((vector_size(UOV_LANES * 4), aligned(4), may_alias));

inline Vector load(const float* p) { return *reinterpret_cast<const UnalignedVector*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<UnalignedVector*>(p) = v; }

// bfloat16 numbers are the upper halves of floats.
typedef unsigned short Half __attribute__((may_alias));
typedef unsigned short UnalignedHalves
    __attribute__((vector_size(UOV_LANES * 2), aligned(2), may_alias));
typedef unsigned Bits __attribute__((vector_size(UOV_LANES * 4)));
// Compilers convert vectors of halves piece by piece: where one instruction does it, it is named.
inline Bits widen(UnalignedHalves halves) {
#if UOV_LANES == 16
  return (Bits)_mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)halves);
#elif UOV_LANES == 8
  return (Bits)_mm256_cvtepu16_epi32((__m128i)halves);
#else
  return __builtin_convertvector(halves, Bits);
#endif
}
// Of numbers below 2^16.
inline UnalignedHalves narrow(Bits words) {
#if UOV_LANES == 16
  return (UnalignedHalves)_mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)words);
#elif UOV_LANES == 8
  const __m256i packed = _mm256_packus_epi32((__m256i)words, (__m256i)words);
  return (UnalignedHalves)_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0xd8));
#else
  return __builtin_convertvector(words, UnalignedHalves);
#endif
}
inline Vector load(const Half* p) {
  return (Vector)(widen(*reinterpret_cast<const UnalignedHalves*>(p)) << 16);
}
inline void store(Half* p, Vector v) {  // from_float<bfloat16>
  const Bits bits = (Bits)v, nan = (Bits)(v != v);
  const Bits up = ~nan & (0x7fff + (bits >> 16 & 1)), quiet = nan & 0x400000;
  *reinterpret_cast<UnalignedHalves*>(p) = narrow(((bits + up) | quiet) >> 16);
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
  __m512 pair = _mm512_set1_ps(value);
#ifdef __clang__
  // Hides where it comes from: the cast of a broadcast makes Clang 16 recurse until it crashes.
  asm("" : "+v"(pair));
#endif
  return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)column, (__m512bh)pair);
}
#else
inline Vector add_product(Vector sum, float value, Vector column) { return sum + value * column; }
#endif

// What comes into the second-level cache while a tile of a product runs: from each of these on as
// many floats as the product is deep, where that is a multiple of their number.
constexpr int kFetches = kLineFloats;  // so that each line is touched once
static_assert(kProductRows < kFetches, "none would be left for weights");
struct Ahead {
  const float* from[kFetches];
};

// acc[i][v] += sum_d row[i][d] * b(d, v), where b has kTileColumns columns. The rows lie anywhere:
// there must be few enough for all their addresses to stay in integer registers.
template <int ROWS, int VECTORS>
inline void multiply_rows(const float* const (&row)[ROWS], const float* b, long depth,
                          const Ahead& ahead, Vector (&acc)[ROWS][VECTORS]) {
  for (long d = 0; d < depth; ++d, b += kTileColumns) {
    __builtin_prefetch(ahead.from[d % kFetches] + d / kFetches * kFetches, 0, 2);
    Vector column[VECTORS];
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) column[v] = load(b + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
      const float value = row[i][d];
#pragma GCC unroll 8
      for (int v = 0; v < VECTORS; ++v) acc[i][v] = add_product(acc[i][v], value, column[v]);
    }
  }
}

// acc[i][v] += sum_p a(p, i) * b(p, v) over pairs of rows, which may lie ANYWHERE or are those of
// panels, one after the other. Of rows that lie anywhere, a line of each row of `next` comes into
// the second-level cache meanwhile.
template <bool ANYWHERE, int ROWS, int VECTORS>
inline void multiply_outer(const Rows& a, const Rows& b, const Rows& next, int pairs,
                           Vector (&acc)[ROWS][VECTORS]) {
  const float *left = a.words, *right = b.words;
  for (long p = 0; p < pairs; ++p) {
    if (ANYWHERE) {
      left = a.words + a.index[p] * a.stride;
      right = b.words + b.index[p] * b.stride;
      __builtin_prefetch(next.words + next.index[p] * next.stride, 0, 2);
    }
    Vector column[VECTORS];
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) column[v] = load(right + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
      const float value = left[i];
#pragma GCC unroll 8
      for (int v = 0; v < VECTORS; ++v) acc[i][v] = add_product(acc[i][v], value, column[v]);
    }
    if (!ANYWHERE) {
      left += a.stride;
      right += b.stride;
    }
  }
}

// c += acc, or c = acc, on the first `columns` columns, or on all of them.
template <bool ADD, bool WHOLE, int VECTORS>
inline void write_row(float* c, const Vector (&acc)[VECTORS], int columns) {
  if (WHOLE) {
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) {
      store(c + v * kLanes, ADD ? load(c + v * kLanes) + acc[v] : acc[v]);
    }
  } else {
    for (int j = 0; j < columns; ++j) {
      c[j] = ADD ? c[j] + acc[j / kLanes][j % kLanes] : acc[j / kLanes][j % kLanes];
    }
  }
}

// ROWS rows of x times b [depth, columns], to the rows of y at `target`.
template <bool ADD, bool WHOLE, int ROWS, int VECTORS>
void product_tile(const Rows& x, int depth, const float* b, const Ahead& ahead, float* y,
                  const int* target, long y_stride, int columns) {
  const float* row[ROWS];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
    row[i] = x.words + x.index[i] * x.stride;
    // The rows of y arrive while the product runs.
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) {
      __builtin_prefetch(y + target[i] * y_stride + v * kLanes, 1);
    }
  }
  Vector acc[ROWS][VECTORS] = {};
  multiply_rows<ROWS, VECTORS>(row, b, depth, ahead, acc);
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
    write_row<ADD, WHOLE, VECTORS>(y + target[i] * y_stride, acc[i], columns);
  }
}

// The product a^T [ROWS, pairs] x b [pairs, columns] to `ROWS` rows of c.
template <bool ADD, bool ANYWHERE, bool WHOLE, int ROWS, int VECTORS>
void outer_tile(const Rows& a, const Rows& b, const Rows& next, int pairs, float* c, long c_stride,
                int columns) {
  Vector acc[ROWS][VECTORS] = {};
  multiply_outer<ANYWHERE, ROWS, VECTORS>(a, b, next, pairs, acc);
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
    write_row<ADD, WHOLE, VECTORS>(c + i * c_stride, acc[i], columns);
  }
}

// Calls the tile function for `rows` (1..ROWS) at compile-time size.
template <int ROWS>
struct Remainder {
  template <bool ADD>
  static void product(int rows, const Rows& x, int depth, const float* b, const Ahead& ahead,
                      float* y, const int* target, long y_stride, int columns) {
    if (rows < ROWS) {
      Remainder<ROWS - 1>::template product<ADD>(rows, x, depth, b, ahead, y, target, y_stride,
                                                 columns);
    } else if (columns == kTileColumns) {
      product_tile<ADD, true, ROWS, kTileVectors>(x, depth, b, ahead, y, target, y_stride, columns);
    } else if (columns <= kLanes) {
      product_tile<ADD, false, ROWS, 1>(x, depth, b, ahead, y, target, y_stride, columns);
    } else {
      product_tile<ADD, false, ROWS, kTileVectors>(x, depth, b, ahead, y, target, y_stride,
                                                   columns);
    }
  }
  template <bool ADD, bool ANYWHERE>
  static void outer(int rows, const Rows& a, const Rows& b, const Rows& next, int pairs, float* c,
                    long c_stride, int columns) {
    if (rows < ROWS) {
      Remainder<ROWS - 1>::template outer<ADD, ANYWHERE>(rows, a, b, next, pairs, c, c_stride,
                                                         columns);
    } else if (columns == kTileColumns) {
      outer_tile<ADD, ANYWHERE, true, ROWS, kTileVectors>(a, b, next, pairs, c, c_stride, columns);
    } else if (columns <= kLanes) {
      outer_tile<ADD, ANYWHERE, false, ROWS, 1>(a, b, next, pairs, c, c_stride, columns);
    } else {
      outer_tile<ADD, ANYWHERE, false, ROWS, kTileVectors>(a, b, next, pairs, c, c_stride, columns);
    }
  }
};
template <>
struct Remainder<0> {
  template <bool ADD>
  static void product(int, const Rows&, int, const float*, const Ahead&, float*, const int*, long,
                      int) {}
  template <bool ADD, bool ANYWHERE>
  static void outer(int, const Rows&, const Rows&, const Rows&, int, float*, long, int) {}
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

void copy_rows(const bfloat16* x, long rows, long channels, float* words) {
  const Half* from = stored(x);
  for (long i = 0; i < rows; ++i, from += channels) {
    for (long c = 0; c < channels; c += 2) *words++ = pair_at(from + c, c + 1 < channels);
  }
}

void copy_factor(const bfloat16* x, long stride, const int* rows, int count, int depth,
                 float* panel, long panel_stride) {
  for (int i = 0; i < count; i += 2) {
    const Half* second = i + 1 < count ? stored(x) + rows[i + 1] * stride : nullptr;
    pair_up(stored(x) + rows[i] * stride, second, depth, panel + i / 2 * panel_stride);
  }
}
#else
template <typename T>
void copy_rows(const T* x, long rows, long channels, float* words) {
  const auto* from = stored(x);
  const long count = rows * channels;
  long i = 0;
  for (; i + kLanes <= count; i += kLanes) store(words + i, load(from + i));
  for (; i < count; ++i) words[i] = load_one(from + i);
}

void copy_factor(const float* x, long stride, const int* rows, int count, int depth, float* panel,
                 long panel_stride) {
  for (int i = 0; i < count; ++i) {
    copy_rows(x + rows[i] * stride, 1, depth, panel + i * panel_stride);
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

inline Rows from_row(const Rows& rows, int first) {
  return {rows.words, rows.stride, rows.index + first};
}
inline Rows from_word(const Rows& rows, int first) {
  return {rows.words + first, rows.stride, rows.index};
}

template <bool ADD>
void product_slabs(const Rows& x, int rows, int following, int words, const float* packed,
                   int columns, float* y, const int* target, long y_stride) {
  for (int j = 0; j < columns; j += kTileColumns) {
    const float* b = packed + static_cast<long>(j) * words;
    const int width = smaller(kTileColumns, columns - j);
    // Tiles of the first slab fetch the rows of those behind them. The first tiles of each fetch
    // the next slab, or whatever follows the last. Else they fetch what is there already.
    const int row_fetches = j == 0 ? kProductRows : 0;
    const float* next = b + words * kTileColumns;
    const float* const end = next + words * kTileColumns;
    for (int i = 0; i < rows; i += kProductRows) {
      Ahead ahead;
      for (int k = 0; k < row_fetches; ++k) {
        const int r = i + kProductRows + k;
        ahead.from[k] = x.words + x.index[r < rows + following ? r : i] * x.stride;
      }
      for (int k = row_fetches; k < kFetches; ++k, next += words) {
        ahead.from[k] = next < end ? next : b;
      }
      Remainder<kProductRows>::template product<ADD>(smaller(kProductRows, rows - i),
                                                     from_row(x, i), words, b, ahead, y + j,
                                                     target + i, y_stride, width);
    }
  }
}

void product(const Rows& x, int rows, int following, int words, const float* packed, int columns,
             float* y, const int* target, long y_stride, bool add) {
  const auto slabs = add ? product_slabs<true> : product_slabs<false>;
  slabs(x, rows, following, words, packed, columns, y, target, y_stride);
}

template <bool ADD, bool ANYWHERE>
void outer_tiles(const Rows& a, int a_columns, const Rows& b, int b_columns, int rows,
                 int following, float* c, long c_stride) {
  // Each tile fetches one line of every row that comes next: first those of a, then of b, as far as
  // the tiles go.
  const bool fetches = ANYWHERE && following > 0;
  const int a_lines = fetches ? (a_columns + kLineFloats - 1) / kLineFloats : 0;
  const int b_lines = fetches ? (b_columns + kLineFloats - 1) / kLineFloats : 0;
  int line = 0;
  for (int j = 0; j < b_columns; j += kTileColumns) {
    const int width = smaller(kTileColumns, b_columns - j);
    for (int i = 0; i < a_columns; i += kOuterRows, ++line) {
      Rows next = a;  // there already
      if (line < a_lines) {
        next = from_word(from_row(a, following), line * kLineFloats);
      } else if (line < a_lines + b_lines) {
        next = from_word(from_row(b, following), (line - a_lines) * kLineFloats);
      }
      Remainder<kOuterRows>::template outer<ADD, ANYWHERE>(
          smaller(kOuterRows, a_columns - i), from_word(a, i), from_word(b, j), next, rows,
          c + i * c_stride + j, c_stride, width);
    }
  }
}

void outer(const Rows& a, int a_columns, const Rows& b, int b_columns, int rows, int following,
           float* c, long c_stride, bool add) {
  const bool anywhere = a.index != nullptr;
  const auto tiles = anywhere ? (add ? outer_tiles<true, true> : outer_tiles<false, true>)
                              : (add ? outer_tiles<true, false> : outer_tiles<false, false>);
  tiles(a, a_columns, b, b_columns, rows, following, c, c_stride);
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
#define UOV_PAIRS UOV_PAIR(0), UOV_PAIR(1)
#elif UOV_LANES == 8
#define UOV_PAIRS UOV_PAIR(0), UOV_PAIR(1), UOV_PAIR(2), UOV_PAIR(3)
#else
#define UOV_PAIRS                                                                            \
  UOV_PAIR(0), UOV_PAIR(1), UOV_PAIR(2), UOV_PAIR(3), UOV_PAIR(4), UOV_PAIR(5), UOV_PAIR(6), \
      UOV_PAIR(7)
#endif
#ifdef __clang__
  return __builtin_shufflevector(a, b, UOV_PAIRS);
#else  // which knows that one from version 12 on only
  typedef int Places __attribute__((vector_size(UOV_LANES * 4)));
  return __builtin_shuffle(a, b, Places{UOV_PAIRS});
#endif
#undef UOV_PAIR
#undef UOV_PAIRS
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
// Where a row has an odd number of channels, the next one does not begin with a word.
typedef float UnalignedWords __attribute__((vector_size(UOV_LANES * 4), aligned(2), may_alias));
inline Vector load_words(const Half* p) { return *reinterpret_cast<const UnalignedWords*>(p); }
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
