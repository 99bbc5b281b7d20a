// How the threads of a block share rows [rows, channels]: who has which columns of which rows.
//
// Every thread has one vector of columns, its lane, and every groups-th row: threads next to each
// other read memory next to each other, and what belongs to columns is read once.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/device.h"
#include "cuda/numbers.h"

namespace uov::cuda {

inline constexpr int kRowThreads = 256;

UOV_HOST_DEVICE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
UOV_HOST_DEVICE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

inline dim3 grid(int64_t x, int64_t y = 1) {
  return dim3(static_cast<unsigned>(x), static_cast<unsigned>(y));
}

// Numbers of a vector: 16 bytes of them where all rows begin at multiples of that, else one.
template <typename T>
inline constexpr int kWidest = 16 / static_cast<int>(sizeof(T));
template <typename T, typename... Pointers>
bool fits_widest(int64_t channels, const Pointers*... arrays) {
  return channels % kWidest<T> == 0 && ((reinterpret_cast<uintptr_t>(arrays) % 16 == 0) && ...);
}
// Calls body with an integral constant, the width that these arrays allow.
template <typename T, typename Body, typename... Pointers>
void with_width(int64_t channels, Body&& body, const Pointers*... arrays) {
  if (fits_widest<T>(channels, arrays...)) {
    body(std::integral_constant<int, kWidest<T>>{});
  } else {
    body(std::integral_constant<int, 1>{});
  }
}

// The vectors of a row in `slabs` of `lanes` (the last one may have fewer), each slab the work of
// blocks of its own.
struct RowTiles {
  int vectors, slabs, lanes, groups;
};
inline RowTiles row_tiles(int64_t channels, int width, int most_lanes = 32) {
  const int64_t vectors = channels / width;
  const int64_t slabs = ceil_div(vectors, most_lanes);
  // As many in one slab as in the other: a slab of one lane would leave whole warps without work.
  const int64_t lanes = vectors == 0 ? 1 : ceil_div(vectors, slabs);
  return {static_cast<int>(vectors), static_cast<int>(slabs), static_cast<int>(lanes),
          static_cast<int>(kRowThreads / lanes)};
}

// A thread's place among them. The slab is blockIdx.y.
struct Place {
  int group;
  int vector;  // of the row
  bool works;  // else there is nothing for this thread
};
UOV_DEVICE Place place_in(const RowTiles& tiles) {
  const int thread = static_cast<int>(threadIdx.x);
  const int group = thread / tiles.lanes;
  const int vector = static_cast<int>(blockIdx.y) * tiles.lanes + thread - group * tiles.lanes;
  return {group, vector, group < tiles.groups && vector < tiles.vectors};
}

// Vectors of float32 numbers, N of them, whatever fits one load.
template <int N>
UOV_DEVICE void load_floats(Global<const float> from, int64_t at, float (&value)[N]) {
  constexpr int kPiece = N < 4 ? N : 4;
  for (int i = 0; i < N; i += kPiece) {
    const Vector<float, kPiece> piece = load<kPiece>(from, at + i);
    for (int j = 0; j < kPiece; ++j) value[i + j] = piece.value[j];
  }
}
template <int N>
UOV_DEVICE void store_floats(Global<float> to, int64_t at, const float (&value)[N]) {
  constexpr int kPiece = N < 4 ? N : 4;
  for (int i = 0; i < N; i += kPiece) {
    Vector<float, kPiece> piece;
    for (int j = 0; j < kPiece; ++j) piece.value[j] = value[i + j];
    store<kPiece>(to, at + i, piece);
  }
}
template <typename T, int N>
UOV_DEVICE void store_narrowed(Global<T> to, int64_t at, const float (&value)[N]) {
  Vector<T, N> narrow;
  for (int i = 0; i < N; ++i) narrow.value[i] = narrowed<T>(value[i]);
  store<N>(to, at, narrow);
}

// Joins what the groups of a block have into the first group's, neighbours first: an order that
// depends on nothing but their number. `memory` has S * kRowThreads numbers. join(group, step,
// state, other) adds to `state`, of groups [group, group + step), that of the `step` groups after
// them. Called by all threads of a block.
template <int S, typename Join>
UOV_DEVICE void join_groups(const RowTiles& tiles, const Place& place, Shared<float> memory,
                            float (&state)[S], Join&& join) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int step = 1; step < tiles.groups; step *= 2) {
    if (place.works && place.group % (2 * step) == step) {
      for (int i = 0; i < S; ++i) memory[i * kRowThreads + thread] = state[i];
    }
    __syncthreads();
    if (place.works && place.group % (2 * step) == 0 && place.group + step < tiles.groups) {
      float other[S];
      const int there = thread + step * tiles.lanes;
      for (int i = 0; i < S; ++i) other[i] = memory[i * kRowThreads + there];
      join(place.group, step, state, other);
    }
    // Each step has writers of its own, whose numbers nothing has yet read or will write again.
  }
}

}  // namespace uov::cuda
