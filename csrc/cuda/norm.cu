#include <algorithm>

#include "cuda/device.h"
#include "cuda/norm.h"
#include "cuda/norm_rows.h"
#include "cuda/numbers.h"
#include "cuda/row_tiles.h"
#include "cuda/workspace.h"

namespace uov::cuda {
namespace {

// Rows of one block that sums columns: enough to be worth its partial sums, and so many that the
// second pass has at most kMostTiles of them to join.
constexpr int64_t kTileRows = 64;
constexpr int64_t kMostTiles = 1024;
int64_t rows_of_tile(int64_t rows) {
  return kTileRows * std::max<int64_t>(1, ceil_div(rows, kTileRows * kMostTiles));
}

// What is summed. Each has two sums a column, in `state`: N of the first, then N of the second.
// take() adds rows begin, begin + step ... before end; join() adds the state of `more` rows to that
// of `rows` rows.

// Mean and sum of squared deviations, joined as Chan, Golub and LeVeque do: "Updating Formulae and
// a Pairwise Algorithm for Computing Sample Variances", 1979, equation 2.1.
struct JoinMoments {
  template <int N>
  static UOV_DEVICE void join(int64_t rows, float (&state)[2 * N], int64_t more,
                              const float (&other)[2 * N]) {
    if (more == 0) return;
    const float share = static_cast<float>(more) / static_cast<float>(rows + more);
    const float weight = static_cast<float>(rows) * share;
    for (int i = 0; i < N; ++i) {
      const float distance = other[i] - state[i];
      state[i] += distance * share;
      state[N + i] += other[N + i] + distance * distance * weight;
    }
  }
};

template <typename T, int N>
struct Moments : JoinMoments {
  Global<const T> x;

  UOV_DEVICE void take(int64_t begin, int64_t step, int64_t end, int64_t channels, int64_t column,
                       float (&state)[2 * N]) const {
    // Rows that are looked at twice, in registers: for their mean, and for how far they are from
    // it.
    constexpr int kRows = 8;
    int64_t before = 0;
    for (int64_t row = begin; row < end; row += kRows * step) {
      int here = 0;
      Vector<T, N> value[kRows] = {};
      for (int i = 0; i < kRows; ++i) {
        if (row + i * step >= end) continue;
        value[i] = load<N>(x, (row + i * step) * channels + column);
        ++here;
      }
      float few[2 * N] = {};
      for (int i = 0; i < kRows; ++i) {  // zeros past the last change nothing
        for (int k = 0; k < N; ++k) few[k] += widened(value[i].value[k]);
      }
      for (int k = 0; k < N; ++k) few[k] /= static_cast<float>(here);
      for (int i = 0; i < kRows; ++i) {
        for (int k = 0; k < N; ++k) {
          const float deviation = widened(value[i].value[k]) - few[k];
          few[N + k] += i < here ? deviation * deviation : 0.0f;
        }
      }
      join<N>(before, state, here, few);
      before += here;
    }
  }
};

struct JoinSums {
  template <int N>
  static UOV_DEVICE void join(int64_t, float (&state)[2 * N], int64_t,
                              const float (&other)[2 * N]) {
    for (int i = 0; i < 2 * N; ++i) state[i] += other[i];
  }
};

// What a ReLU lets through.
template <typename T>
UOV_DEVICE float passed(bool relu, T dy, T y) {
  return !relu || widened(y) > 0.0f ? widened(dy) : 0.0f;
}

template <typename T, int N>
struct Gradients : JoinSums {
  Global<const T> dy, y, x;
  Global<const float> mean;
  bool relu;

  UOV_DEVICE void take(int64_t begin, int64_t step, int64_t end, int64_t channels, int64_t column,
                       float (&state)[2 * N]) const {
    constexpr int kRows = N > 4 ? 2 : 4;  // whose loads are under way together
    float middle[N];
    load_floats(mean, column, middle);
    for (int64_t row = begin; row < end; row += kRows * step) {
      Vector<T, N> slope[kRows] = {}, result[kRows] = {}, value[kRows] = {};
      for (int i = 0; i < kRows; ++i) {
        if (row + i * step >= end) continue;
        const int64_t at = (row + i * step) * channels + column;
        slope[i] = load<N>(dy, at);
        if (relu) result[i] = load<N>(y, at);
        value[i] = load<N>(x, at);
      }
      for (int i = 0; i < kRows; ++i) {
        if (row + i * step >= end) continue;
        for (int k = 0; k < N; ++k) {
          const float g = passed(relu, slope[i].value[k], result[i].value[k]);
          state[k] += g;
          state[N + k] += g * (widened(value[i].value[k]) - middle[k]);
        }
      }
    }
  }
};

// Sums of the block's tile of valid rows, to parts[tile, 2, channels].
template <typename Sum, int N>
UOV_KERNEL(kRowThreads)
tile_kernel(Sum sum, int64_t rows, int64_t channels, Global<const int32_t> count, int64_t tile_rows,
            RowTiles tiles, Global<float> parts) {
  UOV_SHARED(float, memory, 2 * N * kRowThreads);
  const int64_t begin = blockIdx.x * tile_rows;
  const int64_t end = smaller(begin + tile_rows, valid_rows(count, rows));
  if (begin >= end) return;
  const Place place = place_in(tiles);
  const int64_t column = int64_t{place.vector} * N;
  float state[2 * N] = {};
  if (place.works) sum.take(begin + place.group, tiles.groups, end, channels, column, state);
  // Rows of the groups before one: every group has one of each `groups` rows, and the first ones
  // have one of the rest.
  const int here = static_cast<int>(end - begin);
  const int every = here / tiles.groups, rest = here % tiles.groups;
  const auto before = [&](int group) { return every * group + smaller(group, rest); };
  join_groups(tiles, place, memory, state,
              [&](int group, int step, float (&mine)[2 * N], const float (&other)[2 * N]) {
                const int64_t middle = before(group + step);
                const int64_t last =
                    before(static_cast<int>(smaller(group + 2 * step, tiles.groups)));
                Sum::template join<N>(middle - before(group), mine, last - middle, other);
              });
  if (!place.works || place.group != 0) return;
  for (int which = 0; which < 2; ++which) {
    float one[N];
    for (int k = 0; k < N; ++k) one[k] = state[which * N + k];
    store_floats(parts, (int64_t{blockIdx.x} * 2 + which) * channels + column, one);
  }
}

// Joins the tiles: every group takes some that follow each other, then the groups are joined.
template <typename Join>
UOV_KERNEL(kRowThreads)
finish_kernel(Global<const float> parts, int64_t rows, int64_t channels,
              Global<const int32_t> count, int64_t tile_rows, RowTiles tiles, Global<float> first,
              Global<float> second) {
  UOV_SHARED(float, memory, 2 * kRowThreads);
  const int64_t valid = valid_rows(count, rows);
  const int64_t number = ceil_div(valid, tile_rows);
  const int64_t share = ceil_div(number, tiles.groups);
  const Place place = place_in(tiles);
  const auto before = [&](int64_t tile) { return smaller(tile * tile_rows, valid); };
  float state[2] = {};
  if (place.works) {
    const int64_t begin = place.group * share, end = smaller(begin + share, number);
    constexpr int kTogether = 4;  // loads that are under way together
    for (int64_t tile = begin; tile < end; tile += kTogether) {
      float other[kTogether][2] = {};
      for (int i = 0; i < kTogether; ++i) {
        if (tile + i >= end) continue;
        other[i][0] = parts[(tile + i) * 2 * channels + place.vector];
        other[i][1] = parts[((tile + i) * 2 + 1) * channels + place.vector];
      }
      for (int i = 0; i < kTogether; ++i) {
        if (tile + i >= end) continue;
        const int64_t middle = before(tile + i);
        Join::template join<1>(middle - before(begin), state, before(tile + i + 1) - middle,
                               other[i]);
      }
    }
  }
  join_groups(tiles, place, memory, state,
              [&](int group, int step, float (&mine)[2], const float (&other)[2]) {
                const int64_t middle = before((group + step) * share);
                const int64_t last = before((group + 2 * step) * share);
                Join::template join<1>(middle - before(group * share), mine, last - middle, other);
              });
  if (!place.works || place.group != 0) return;
  first[place.vector] = state[0];
  second[place.vector] = state[1];
}

// Columns of a block of finish_kernel: few, for the sake of many blocks; 32 bytes, which memory
// moves together.
constexpr int kFinishColumns = 8;

template <typename Join, int N, typename Sum>
void sum_columns(Stream stream, const char* name, const Sum& sum, int64_t rows, int64_t channels,
                 const int32_t* count, float* first, float* second, void* workspace) {
  const int64_t tile_rows = rows_of_tile(rows), number = ceil_div(rows, tile_rows);
  const RowTiles tiles = row_tiles(channels, N);
  float* parts = Workspace(workspace).take<float>(number * 2 * channels);
  launch(stream, name, tile_kernel<Sum, N>, grid(number, tiles.slabs), kRowThreads, 0, sum, rows,
         channels, global(count, 1), tile_rows, tiles, global(parts, number * 2 * channels));
  const RowTiles columns = row_tiles(channels, 1, kFinishColumns);
  launch(stream, name, finish_kernel<Join>, grid(1, columns.slabs), kRowThreads, 0,
         global<const float>(parts, number * 2 * channels), rows, channels, global(count, 1),
         tile_rows, columns, global(first, channels), global(second, channels));
}

// Groups of rows with moments of their own, `each` of them joined by a block in their order, to
// first and second [block, channels] with lines `stride` apart. How many rows these are of goes to
// joined_rows, if that is somewhere.
UOV_KERNEL(kRowThreads)
join_moments_kernel(Global<const float> parts, Global<const int32_t> group_rows, int64_t groups,
                    int64_t channels, int64_t each, RowTiles tiles, Global<float> first,
                    Global<float> second, int64_t stride, Global<int32_t> joined_rows) {
  UOV_SHARED(float, memory, 3 * kRowThreads);
  // Moments, and the number of their rows.
  const auto join = [](float (&mine)[3], const float (&other)[3]) {
    float moments[2] = {mine[0], mine[1]};
    JoinMoments::join<1>(static_cast<int64_t>(mine[2]), moments, static_cast<int64_t>(other[2]),
                         {other[0], other[1]});
    mine[0] = moments[0];
    mine[1] = moments[1];
    mine[2] += other[2];
  };
  const int64_t begin = blockIdx.x * each, end = smaller(begin + each, groups);
  const int64_t share = ceil_div(end - begin, tiles.groups);
  const Place place = place_in(tiles);
  float state[3] = {};
  if (place.works) {
    const int64_t from = begin + place.group * share, to = smaller(from + share, end);
    constexpr int kTogether = 4;  // loads that are under way together
    for (int64_t group = from; group < to; group += kTogether) {
      float other[kTogether][3] = {};
      for (int i = 0; i < kTogether; ++i) {
        if (group + i >= to) continue;
        other[i][0] = parts[(group + i) * 2 * channels + place.vector];
        other[i][1] = parts[((group + i) * 2 + 1) * channels + place.vector];
        other[i][2] = static_cast<float>(group_rows[group + i]);
      }
      for (int i = 0; i < kTogether; ++i) join(state, other[i]);  // none past the last
    }
  }
  join_groups(tiles, place, memory, state,
              [&](int, int, float (&mine)[3], const float (&other)[3]) { join(mine, other); });
  if (!place.works || place.group != 0) return;
  first[blockIdx.x * stride + place.vector] = state[0];
  second[blockIdx.x * stride + place.vector] = state[1];
  if (stride != 0 && place.vector == 0) joined_rows[blockIdx.x] = static_cast<int32_t>(state[2]);
}

// So many groups are joined by a block, before one joins what these have.
constexpr int64_t kTileGroups = 64;

// What the blocks have, where there is more than one.
struct JoinedGroups {
  JoinedGroups(int64_t groups, int64_t channels, void* memory)
      : tiles(ceil_div(groups, kTileGroups)) {
    Workspace workspace(memory);
    parts = workspace.take<float>(tiles * 2 * channels);
    rows = workspace.take<int32_t>(tiles);
    bytes = workspace.bytes();
  }
  int64_t tiles, bytes;
  float* parts;
  int32_t* rows;
};

// Rows of a thread below, whose loads are under way together.
constexpr int kAffineRows = 4;

template <typename T, int N>
UOV_KERNEL(kRowThreads)
affine_kernel(Global<const T> x, int64_t rows, int64_t channels, Affine<T> affine, RowTiles tiles,
              Global<T> y) {
  const Place place = place_in(tiles);
  if (!place.works) return;
  const int64_t valid = valid_rows(affine.count, rows);
  const int64_t first = int64_t{blockIdx.x} * tiles.groups * kAffineRows + place.group;
  const int64_t column = int64_t{place.vector} * N;
  Vector<T, N> value[kAffineRows] = {}, added[kAffineRows] = {};
  for (int i = 0; i < kAffineRows; ++i) {
    const int64_t row = first + i * tiles.groups;
    if (row >= valid) continue;
    value[i] = load<N>(x, row * channels + column);
    if (affine.has_shortcut) added[i] = load<N>(affine.shortcut, row * channels + column);
  }
  float middle[N], factor[N], summand[N];
  load_floats(affine.mean, column, middle);
  load_floats(affine.scale, column, factor);
  load_floats(affine.bias, column, summand);
  for (int i = 0; i < kAffineRows; ++i) {
    const int64_t row = first + i * tiles.groups;
    if (row >= rows) return;
    float result[N] = {};
    for (int k = 0; k < N && row < valid; ++k) {
      result[k] = applied(affine, widened(value[i].value[k]), middle[k], factor[k], summand[k],
                          widened(added[i].value[k]));
    }
    store_narrowed<T>(y, row * channels + column, result);
  }
}

constexpr int kGradientRows = 2;

template <typename T, int N>
UOV_KERNEL(kRowThreads)
gradient_kernel(Gradients<T, N> from, int64_t rows, int64_t channels, Global<const float> offset,
                Global<const float> slope, Global<const float> scale, Global<const int32_t> count,
                RowTiles tiles, Global<T> dx, Global<T> dshortcut, bool has_shortcut) {
  const Place place = place_in(tiles);
  if (!place.works) return;
  const int64_t valid = valid_rows(count, rows);
  const int64_t first = int64_t{blockIdx.x} * tiles.groups * kGradientRows + place.group;
  const int64_t column = int64_t{place.vector} * N;
  Vector<T, N> dy[kGradientRows] = {}, y[kGradientRows] = {}, x[kGradientRows] = {};
  for (int i = 0; i < kGradientRows; ++i) {
    const int64_t row = first + i * tiles.groups;
    if (row >= valid) continue;
    const int64_t at = row * channels + column;
    dy[i] = load<N>(from.dy, at);
    if (from.relu) y[i] = load<N>(from.y, at);
    x[i] = load<N>(from.x, at);
  }
  float middle[N], shift[N], tilt[N], factor[N];
  load_floats(from.mean, column, middle);
  load_floats(offset, column, shift);
  load_floats(slope, column, tilt);
  load_floats(scale, column, factor);
  for (int i = 0; i < kGradientRows; ++i) {
    const int64_t row = first + i * tiles.groups;
    if (row >= rows) return;
    float result[N] = {}, g[N] = {};
    for (int k = 0; k < N && row < valid; ++k) {
      g[k] = passed(from.relu, dy[i].value[k], y[i].value[k]);
      const float deviation = widened(x[i].value[k]) - middle[k];
      result[k] = (g[k] - shift[k] - deviation * tilt[k]) * factor[k];
    }
    store_narrowed<T>(dx, row * channels + column, result);
    if (has_shortcut) store_narrowed<T>(dshortcut, row * channels + column, g);
  }
}

template <typename T, int N>
Gradients<T, N> gradients(const T* dy, const T* y, const T* x, int64_t rows, int64_t channels,
                          const float* mean) {
  const int64_t numbers = rows * channels;
  return {{},
          global(dy, numbers),
          global(y, y == nullptr ? 0 : numbers),
          global(x, numbers),
          global(mean, channels),
          y != nullptr};
}

}  // namespace

void join_moments(Stream stream, const float* parts, const int32_t* group_rows, int64_t groups,
                  int64_t channels, float* mean, float* m2, void* workspace) {
  JoinedGroups joined(groups, channels, workspace);
  auto given = global(parts, groups * 2 * channels);
  auto rows = global(group_rows, groups);
  if (joined.tiles > 1) {
    const RowTiles columns = row_tiles(channels, 1);
    const auto made = global(joined.parts, joined.tiles * 2 * channels);
    const auto made_rows = global(joined.rows, joined.tiles);
    launch(stream, "join_moments", join_moments_kernel, grid(joined.tiles, columns.slabs),
           kRowThreads, 0, given, rows, groups, channels, kTileGroups, columns, made,
           made + channels, 2 * channels, made_rows);
    given = made;
    rows = made_rows;
    groups = joined.tiles;
  }
  const RowTiles columns = row_tiles(channels, 1, kFinishColumns);
  launch(stream, "join_moments", join_moments_kernel, grid(1, columns.slabs), kRowThreads, 0, given,
         rows, groups, channels, groups, columns, global(mean, channels), global(m2, channels),
         int64_t{0}, Global<int32_t>{});
}

int64_t join_moments_workspace(int64_t groups, int64_t channels) {
  return JoinedGroups(groups, channels, nullptr).bytes;
}

int64_t column_sums_workspace(int64_t rows, int64_t channels) {
  Workspace workspace;
  workspace.take<float>(ceil_div(rows, rows_of_tile(rows)) * 2 * channels);
  return workspace.bytes();
}

template <typename T>
void column_moments(Stream stream, const T* x, int64_t rows, int64_t channels, const int32_t* count,
                    float* mean, float* m2, void* workspace) {
  with_width<T>(
      channels,
      [&](auto width) {
        constexpr int N = decltype(width)::value;
        sum_columns<JoinMoments, N>(stream, "column_moments",
                                    Moments<T, N>{{}, global(x, rows * channels)}, rows, channels,
                                    count, mean, m2, workspace);
      },
      x);
}

template <typename T>
void affine_rows(Stream stream, const T* x, int64_t rows, int64_t channels,
                 const RowAffine<T>& affine, T* y) {
  with_width<T>(
      channels,
      [&](auto width) {
        constexpr int N = decltype(width)::value;
        const RowTiles tiles = row_tiles(channels, N);
        const int64_t numbers = rows * channels;
        launch(stream, "affine_rows", affine_kernel<T, N>,
               grid(ceil_div(rows, tiles.groups * kAffineRows), tiles.slabs), kRowThreads, 0,
               global(x, numbers), rows, channels, affine_of(affine, rows, channels), tiles,
               global(y, numbers));
      },
      x, affine.mean, affine.scale, affine.bias, affine.shortcut, y);
}

template <typename T>
void affine_gradient_sums(Stream stream, const T* dy, const T* y, const T* x, int64_t rows,
                          int64_t channels, const float* mean, const int32_t* count, float* sum,
                          float* sum_deviation, void* workspace) {
  with_width<T>(
      channels,
      [&](auto width) {
        constexpr int N = decltype(width)::value;
        sum_columns<JoinSums, N>(stream, "affine_gradient_sums",
                                 gradients<T, N>(dy, y, x, rows, channels, mean), rows, channels,
                                 count, sum, sum_deviation, workspace);
      },
      dy, y, x, mean);
}

template <typename T>
void affine_gradient_rows(Stream stream, const T* dy, const T* y, const T* x, int64_t rows,
                          int64_t channels, const float* mean, const float* offset,
                          const float* slope, const float* scale, const int32_t* count, T* dx,
                          T* dshortcut) {
  const bool has_shortcut = dshortcut != nullptr;
  with_width<T>(
      channels,
      [&](auto width) {
        constexpr int N = decltype(width)::value;
        const RowTiles tiles = row_tiles(channels, N);
        const int64_t numbers = rows * channels;
        launch(stream, "affine_gradient_rows", gradient_kernel<T, N>,
               grid(ceil_div(rows, tiles.groups * kGradientRows), tiles.slabs), kRowThreads, 0,
               gradients<T, N>(dy, y, x, rows, channels, mean), rows, channels,
               global(offset, channels), global(slope, channels), global(scale, channels),
               global(count, 1), tiles, global(dx, numbers),
               global(dshortcut, has_shortcut ? numbers : 0), has_shortcut);
      },
      dy, y, x, mean, offset, slope, scale, dx, dshortcut);
}

#define UOV_NORM_OF(T)                                                                          \
  template void column_moments<T>(Stream, const T*, int64_t, int64_t, const int32_t*, float*,   \
                                  float*, void*);                                               \
  template void affine_rows<T>(Stream, const T*, int64_t, int64_t, const RowAffine<T>&, T*);    \
  template void affine_gradient_sums<T>(Stream, const T*, const T*, const T*, int64_t, int64_t, \
                                        const float*, const int32_t*, float*, float*, void*);   \
  template void affine_gradient_rows<T>(Stream, const T*, const T*, const T*, int64_t, int64_t, \
                                        const float*, const float*, const float*, const float*, \
                                        const int32_t*, T*, T*);
UOV_NORM_OF(float)
UOV_NORM_OF(bfloat16)
#undef UOV_NORM_OF

}  // namespace uov::cuda
