#include <cmath>
#include <limits>

#include "core/rows.h"
#include "cuda/device.h"
#include "cuda/fault.h"
#include "cuda/numbers.h"
#include "cuda/primitives.h"
#include "cuda/row_tiles.h"
#include "cuda/rows.h"
#include "cuda/workspace.h"

namespace uov::cuda {
namespace {

UOV_DEVICE bool is_row(int32_t index, int64_t rows) { return index >= 0 && index < rows; }

// An index that is neither a row nor -1.
UOV_DEVICE void report_bad(int32_t index, int64_t rows, Global<int32_t> fault) {
  if (index >= -1 && index < rows) return;
  report(fault, FaultKind::kRowIndex, index, static_cast<int32_t>(rows));
}

// Rows of one thread, whose loads are under way together.
constexpr int kGathered = 4;

template <typename T, int N>
UOV_KERNEL(kRowThreads)
gather_kernel(Global<const T> x, int64_t rows, int64_t channels, Global<const int32_t> index,
              int64_t count, RowTiles tiles, Global<T> y, Global<int32_t> fault) {
  const Place place = place_in(tiles);
  if (!place.works) return;
  const int64_t first = int64_t{blockIdx.x} * tiles.groups * kGathered + place.group;
  const int64_t column = int64_t{place.vector} * N;
  int32_t from[kGathered];
  for (int i = 0; i < kGathered; ++i) {
    const int64_t m = first + i * tiles.groups;
    from[i] = m < count ? int32_t{index[m]} : -1;
  }
  Vector<T, N> row[kGathered] = {};
  for (int i = 0; i < kGathered; ++i) {
    if (is_row(from[i], rows)) row[i] = load<N>(x, from[i] * channels + column);
  }
  for (int i = 0; i < kGathered; ++i) {
    const int64_t m = first + i * tiles.groups;
    if (m < count) store<N>(y, m * channels + column, row[i]);
  }
  if (place.vector != 0) return;
  for (int i = 0; i < kGathered; ++i) report_bad(from[i], rows, fault);
}

// What gather_scatter_rows needs: its pairs in the order of their targets.
struct Segments {
  uint32_t *keys, *sorted_keys;  // [count]: the target, or rows_out for a pair that is left out
  int32_t *members, *sorted_members;  // [count]: the source
  int32_t* starts;                    // [rows_out + 1]: where a target's pairs begin
  float* parts;                       // [2 * ceil(count / kPart), channels], see sum_kernel
  void* sorting;

  Segments(Workspace& workspace, int64_t count, int64_t rows_out, int64_t channels) {
    keys = workspace.take<uint32_t>(count);
    sorted_keys = workspace.take<uint32_t>(count);
    members = workspace.take<int32_t>(count);
    sorted_members = workspace.take<int32_t>(count);
    starts = workspace.take<int32_t>(rows_out + 1);
    parts = workspace.take<float>(2 * ceil_div(count, kPart) * channels);
    sorting = workspace.take<unsigned char>(sort_pairs_workspace<uint32_t>(count));
  }
};

UOV_KERNEL(kRowThreads)
key_kernel(Global<const int32_t> source, bool identity, Global<const int32_t> target, int64_t count,
           int64_t rows_in, int64_t rows_out, Global<uint32_t> keys, Global<int32_t> members,
           Global<int32_t> fault) {
  const int64_t m = int64_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (m >= count) return;
  const int32_t to = target[m];
  const int32_t from = identity ? static_cast<int32_t>(m) : source[m];
  report_bad(to, rows_out, fault);
  report_bad(from, rows_in, fault);
  const bool used = is_row(to, rows_out) && is_row(from, rows_in);
  keys[m] = static_cast<uint32_t>(used ? to : rows_out);
  members[m] = from;
}

// starts[row]: how many sorted keys are smaller.
UOV_KERNEL(kRowThreads)
start_kernel(Global<const uint32_t> keys, int64_t count, int64_t rows_out, Global<int32_t> starts) {
  const int64_t row = int64_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (row > rows_out) return;
  int64_t low = 0, high = count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (keys[middle] < row) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  starts[row] = static_cast<int32_t>(low);
}

// Sorted pairs [begin, end) of one target.
struct Range {
  int64_t begin, end;
  int64_t target;
};

// The pairs of a target that are more than kPart are summed in parts of kPart. Cut the sorted pairs
// into tiles of kPart: at most two parts begin in one. Slot 2 * tile is for one of a target that
// began before the tile, slot 2 * tile + 1 for the first part of one that begins in it. Here is the
// whole range of that target, empty without.
UOV_DEVICE Range long_range(Global<const uint32_t> keys, Global<const int32_t> starts,
                            int64_t count, int64_t rows_out, int64_t slot) {
  const int64_t tile = slot / 2 * kPart;
  const bool begins = slot % 2 == 1;
  const int64_t target = keys[begins ? smaller(tile + kPart, count) - 1 : tile];
  if (target >= rows_out) return {0, 0, 0};
  const Range range{starts[target], starts[target + 1], target};
  const bool wanted = range.end - range.begin > kPart && (range.begin >= tile) == begins;
  return wanted ? range : Range{0, 0, 0};
}

UOV_DEVICE Range part_of(Range range, int64_t slot) {
  const int64_t tile = slot / 2 * kPart;
  const int64_t ahead = range.begin < tile ? ceil_div(tile - range.begin, kPart) * kPart : 0;
  const int64_t begin = smaller(range.begin + ahead, range.end);
  // The last part may have begun before the tile.
  return {begin, smaller(begin + kPart, range.end), range.target};
}

// Adds up rows in the order of `members`.
template <typename T, int N>
UOV_DEVICE void add_members(Global<const T> x, int64_t channels, Global<const int32_t> members,
                            Range range, int64_t column, float (&sum)[N]) {
  constexpr int kTogether = 4;  // loads that are under way together
  int64_t i = range.begin;
  for (; i + kTogether <= range.end; i += kTogether) {
    Vector<T, N> row[kTogether];
    for (int j = 0; j < kTogether; ++j) row[j] = load<N>(x, members[i + j] * channels + column);
    for (int j = 0; j < kTogether; ++j) {
      for (int k = 0; k < N; ++k) sum[k] += widened(row[j].value[k]);
    }
  }
  for (; i < range.end; ++i) {
    const Vector<T, N> row = load<N>(x, members[i] * channels + column);
    for (int k = 0; k < N; ++k) sum[k] += widened(row.value[k]);
  }
}

// Every row of y that has at most kPart pairs, then every part of the others, by its slot.
template <typename T, int N>
UOV_KERNEL(kRowThreads)
sum_kernel(Global<const T> x, int64_t channels, Global<const uint32_t> keys,
           Global<const int32_t> members, Global<const int32_t> starts, int64_t count,
           int64_t rows_out, RowTiles tiles, Global<T> y, Global<float> parts) {
  const Place place = place_in(tiles);
  const int64_t item = int64_t{blockIdx.x} * tiles.groups + place.group;
  const int64_t slot = item - rows_out;
  if (!place.works || slot >= 2 * ceil_div(count, kPart)) return;
  const int64_t column = int64_t{place.vector} * N;
  float sum[N] = {};
  if (slot < 0) {
    const Range range{starts[item], starts[item + 1], item};
    if (range.end - range.begin > kPart) return;
    add_members(x, channels, members, range, column, sum);
    store_narrowed<T>(y, item * channels + column, sum);
  } else {
    const Range range = part_of(long_range(keys, starts, count, rows_out, slot), slot);
    if (range.begin >= range.end) return;
    add_members(x, channels, members, range, column, sum);
    store_floats(parts, slot * channels + column, sum);
  }
}

// Joins the parts of the target that begins in the block's tile, if one with parts does.
template <typename T, int N>
UOV_KERNEL(kRowThreads)
join_kernel(int64_t channels, Global<const uint32_t> keys, Global<const int32_t> starts,
            int64_t count, int64_t rows_out, RowTiles tiles, Global<const float> parts,
            Global<T> y) {
  UOV_SHARED(float, memory, N* kRowThreads);
  const int64_t first_slot = 2 * int64_t{blockIdx.x} + 1;
  const Range range = long_range(keys, starts, count, rows_out, first_slot);
  if (range.begin >= range.end) return;
  const Place place = place_in(tiles);
  const int64_t column = int64_t{place.vector} * N;
  const int64_t number = ceil_div(range.end - range.begin, kPart);
  const int64_t share = ceil_div(number, tiles.groups);
  float sum[N] = {};
  if (place.works) {
    const int64_t end = smaller((place.group + 1) * share, number);
    for (int64_t part = place.group * share; part < end; ++part) {
      const int64_t slot = part == 0 ? first_slot : first_slot - 1 + 2 * part;
      float more[N];
      load_floats(parts, slot * channels + column, more);
      for (int k = 0; k < N; ++k) sum[k] += more[k];
    }
  }
  join_groups(tiles, place, memory, sum, [](int, int, float (&state)[N], const float (&other)[N]) {
    for (int k = 0; k < N; ++k) state[k] += other[k];
  });
  if (place.works && place.group == 0) {
    store_narrowed<T>(y, range.target * channels + column, sum);
  }
}

// One warp to a row. Whatever a load moves, a lane has the same columns: four that follow each
// other, and every 128th four from there on.
constexpr int kWarp = 32;
constexpr int kColumns = 4;
constexpr int kWarps = kRowThreads / kWarp;

// Zeros past the last column.
template <int N>
UOV_DEVICE void load_columns(Global<const float> row, int64_t column, int64_t channels,
                             float (&value)[kColumns]) {
  if constexpr (N == kColumns) {
    load_floats(row, column, value);
  } else {
    for (int i = 0; i < kColumns; ++i) {
      value[i] = column + i < channels ? float{row[column + i]} : 0.0f;
    }
  }
}
template <int N>
UOV_DEVICE void store_columns(Global<float> row, int64_t column, int64_t channels,
                              const float (&value)[kColumns]) {
  if constexpr (N == kColumns) {
    store_floats(row, column, value);
  } else {
    for (int i = 0; i < kColumns; ++i) {
      if (column + i < channels) row[column + i] = value[i];
    }
  }
}

// Calls body(column) for the lane's columns.
template <typename Body>
UOV_DEVICE void for_columns(int64_t channels, Body&& body) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int64_t column = lane * kColumns; column < channels; column += kWarp * kColumns) {
    body(column);
  }
}

template <int N>
UOV_DEVICE float dot(Global<const float> a, Global<const float> b, int64_t channels) {
  float sum = 0.0f;
  for_columns(channels, [&](int64_t column) {
    float x[kColumns], y[kColumns];
    load_columns<N>(a, column, channels, x);
    load_columns<N>(b, column, channels, y);
    for (int i = 0; i < kColumns; ++i) sum += x[i] * y[i];
  });
  // Every lane ends with the same sum: what it adds, its partner adds the other way round.
  for (int apart = kWarp / 2; apart > 0; apart /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, apart);
  }
  return sum;
}

constexpr float kNotANumber = std::numeric_limits<float>::quiet_NaN();
constexpr float kLargest = std::numeric_limits<float>::max();

template <int N>
UOV_KERNEL(kRowThreads)
unit_kernel(Global<const float> x, int64_t rows, int64_t channels, Global<const int32_t> count,
            Global<float> y, Global<float> inverse) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t n = int64_t{blockIdx.x} * kWarps + warp;
  if (n >= rows) return;
  const Global<const float> row = x + n * channels;
  const Global<float> out = y + n * channels;
  const float length = n < count[0] ? sqrtf(dot<N>(row, row, channels)) : 0.0f;
  // A length of infinity must not become an inverse of zero, which would hide it.
  const bool is_zero = length < kShortestRow;
  const float factor = is_zero ? 0.0f : length > kLargest ? kNotANumber : 1.0f / length;
  if (threadIdx.x % kWarp == 0) inverse[n] = factor;
  for_columns(channels, [&](int64_t column) {
    float value[kColumns] = {};
    if (!is_zero) load_columns<N>(row, column, channels, value);
    for (int i = 0; i < kColumns; ++i) value[i] *= factor;
    store_columns<N>(out, column, channels, value);
  });
}

template <int N>
UOV_KERNEL(kRowThreads)
unit_gradient_kernel(Global<const float> dy, Global<const float> y, Global<const float> inverse,
                     int64_t rows, int64_t channels, Global<const int32_t> count,
                     Global<float> dx) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t n = int64_t{blockIdx.x} * kWarps + warp;
  if (n >= rows) return;
  const Global<const float> slope = dy + n * channels, unit = y + n * channels;
  const Global<float> out = dx + n * channels;
  const float factor = n < count[0] ? float{inverse[n]} : 0.0f;
  const bool is_zero = factor == 0.0f;
  const float along = is_zero ? 0.0f : dot<N>(slope, unit, channels);
  for_columns(channels, [&](int64_t column) {
    float value[kColumns] = {}, direction[kColumns] = {};
    if (!is_zero) {
      load_columns<N>(slope, column, channels, value);
      load_columns<N>(unit, column, channels, direction);
    }
    for (int i = 0; i < kColumns; ++i) value[i] = (value[i] - direction[i] * along) * factor;
    store_columns<N>(out, column, channels, value);
  });
}

int bits_of(int64_t largest) {
  int bits = 0;
  for (; largest > 0; largest /= 2) ++bits;
  return bits;
}

}  // namespace

template <typename T>
void gather_rows(Stream stream, const T* x, int64_t rows, int64_t channels, const int32_t* index,
                 int64_t count, T* y, int32_t* fault) {
  with_width<T>(
      channels,
      [&](auto width) {
        constexpr int N = decltype(width)::value;
        const RowTiles tiles = row_tiles(channels, N);
        launch(stream, "gather_rows", gather_kernel<T, N>,
               grid(ceil_div(count, tiles.groups * kGathered), tiles.slabs), kRowThreads, 0,
               global(x, rows * channels), rows, channels, global(index, count), count, tiles,
               global(y, count * channels), global(fault, kFaultNumbers));
      },
      x, y);
}

int64_t gather_scatter_rows_workspace(int64_t count, int64_t rows_out, int64_t channels) {
  Workspace workspace;
  Segments(workspace, count, rows_out, channels);
  return workspace.bytes();
}

template <typename T>
void gather_scatter_rows(Stream stream, const T* x, int64_t rows_in, int64_t channels,
                         const int32_t* source, const int32_t* target, int64_t count, T* y,
                         int64_t rows_out, void* workspace, int32_t* fault) {
  Workspace memory(workspace);
  const Segments to(memory, count, rows_out, channels);
  const bool identity = source == nullptr;
  launch(stream, "gather_scatter_rows: keys", key_kernel, grid(ceil_div(count, kRowThreads)),
         kRowThreads, 0, global(source, identity ? 0 : count), identity, global(target, count),
         count, rows_in, rows_out, global(to.keys, count), global(to.members, count),
         global(fault, kFaultNumbers));
  if (rows_out == 0) return;
  sort_pairs<uint32_t>(stream, to.keys, to.sorted_keys, to.members, to.sorted_members, count,
                       bits_of(rows_out), to.sorting);
  const Global<const uint32_t> keys = global<const uint32_t>(to.sorted_keys, count);
  const Global<const int32_t> members = global<const int32_t>(to.sorted_members, count);
  launch(stream, "gather_scatter_rows: starts", start_kernel,
         grid(ceil_div(rows_out + 1, kRowThreads)), kRowThreads, 0, keys, count, rows_out,
         global(to.starts, rows_out + 1));
  const Global<const int32_t> starts = global<const int32_t>(to.starts, rows_out + 1);
  const int64_t part_tiles = ceil_div(count, kPart);
  with_width<T>(
      channels,
      [&](auto width) {
        constexpr int N = decltype(width)::value;
        const RowTiles tiles = row_tiles(channels, N);
        const int64_t numbers = 2 * part_tiles * channels;
        launch(stream, "gather_scatter_rows: sums", sum_kernel<T, N>,
               grid(ceil_div(rows_out + 2 * part_tiles, tiles.groups), tiles.slabs), kRowThreads, 0,
               global(x, rows_in * channels), channels, keys, members, starts, count, rows_out,
               tiles, global(y, rows_out * channels), global(to.parts, numbers));
        // Without more pairs than that, none has parts.
        if (count <= kPart) return;
        launch(stream, "gather_scatter_rows: joins", join_kernel<T, N>,
               grid(part_tiles, tiles.slabs), kRowThreads, 0, channels, keys, starts, count,
               rows_out, tiles, global<const float>(to.parts, numbers),
               global(y, rows_out * channels));
      },
      x, y);
}

void unit_rows(Stream stream, const float* x, int64_t rows, int64_t channels, const int32_t* count,
               float* y, float* inverse) {
  with_width<float>(
      channels,
      [&](auto width) {
        launch(stream, "unit_rows", unit_kernel<decltype(width)::value>,
               grid(ceil_div(rows, kWarps)), kRowThreads, 0, global(x, rows * channels), rows,
               channels, global(count, 1), global(y, rows * channels), global(inverse, rows));
      },
      x, y);
}

void unit_rows_gradient(Stream stream, const float* dy, const float* y, const float* inverse,
                        int64_t rows, int64_t channels, const int32_t* count, float* dx) {
  with_width<float>(
      channels,
      [&](auto width) {
        launch(stream, "unit_rows_gradient", unit_gradient_kernel<decltype(width)::value>,
               grid(ceil_div(rows, kWarps)), kRowThreads, 0, global(dy, rows * channels),
               global(y, rows * channels), global(inverse, rows), rows, channels, global(count, 1),
               global(dx, rows * channels));
      },
      dy, y, dx);
}

#define UOV_ROWS_OF(T)                                                                          \
  template void gather_rows<T>(Stream, const T*, int64_t, int64_t, const int32_t*, int64_t, T*, \
                               int32_t*);                                                       \
  template void gather_scatter_rows<T>(Stream, const T*, int64_t, int64_t, const int32_t*,      \
                                       const int32_t*, int64_t, T*, int64_t, void*, int32_t*);
UOV_ROWS_OF(float)
UOV_ROWS_OF(bfloat16)
#undef UOV_ROWS_OF

}  // namespace uov::cuda
