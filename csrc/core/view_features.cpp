#include "core/view_features.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "core/kernel_choice.h"
#include "core/kernels.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace uov {
namespace {

// Cells that are read from each plane in one go: with `kPlanes` half a second-level cache.
constexpr int64_t kCellsOfBlock = 4096;
// Cells of those that become rows together, in the first-level cache.
constexpr int64_t kCellsOfTile = 64;
// Cells up to which `add_planes` makes rows of all of them first: those of a grid of patches.
constexpr int64_t kCellsOfTable = 4096;
// Planes that become columns of rows together: two cache lines of halves, four of float32 numbers.
constexpr int64_t kPlanes = 64;

[[noreturn]] void refuse() { throw std::invalid_argument("the features are not finite"); }

bool widen(const uint16_t* x, int64_t n, float* y) { return kernels().view.widen_halves(x, n, y); }
bool widen(const float* x, int64_t n, float* y) {
  std::copy_n(x, n, y);
  return std::all_of(x, x + n, [](float value) { return std::isfinite(value); });
}

// The two cells of one axis under every pixel, and the second one's weight.
struct Axis {
  std::vector<int32_t> lower, upper;
  std::vector<float> share;

  Axis(int64_t cells, int64_t pixels) : lower(pixels), upper(pixels), share(pixels) {
    for (int64_t i = 0; i < pixels; ++i) {
      const double exact = (static_cast<double>(i) + 0.5) * static_cast<double>(cells) /
                               static_cast<double>(pixels) -
                           0.5;
      const double place = std::max(exact, 0.0);
      lower[i] = static_cast<int32_t>(std::min(static_cast<int64_t>(place), cells - 1));
      upper[i] = static_cast<int32_t>(std::min<int64_t>(lower[i] + 1, cells - 1));
      share[i] = static_cast<float>(place - lower[i]);
    }
  }
};

// Some places, each with its taps, of features in rows of `width` numbers.
struct Places {
  const int32_t* cell;
  const float* weight;
  const int32_t* target;
  int64_t count;
};

void add(const float* rows, int64_t width, int64_t per_place, const Places& places, float* sums,
         int64_t channels) {
  const auto& view = kernels().view;
  if (per_place == 1) {
    view.add_cells(rows, width, places.cell, places.count, width, sums, channels, places.target);
  } else {
    view.add_mixtures(rows, width, places.cell, places.weight, places.count, width, sums, channels,
                      places.target);
  }
}

// Rows [cells, channels] of planes [channels, cells].
template <typename T>
std::vector<float> rows_of_planes(const T* planes, int64_t channels, int64_t cells,
                                  const ParallelFor& parallel_for) {
  std::vector<float> rows(cells * channels);
  parallel_for(ceil_div(channels, kPlanes), [&](int64_t task) {
    const int64_t first = task * kPlanes, width = std::min(kPlanes, channels - first);
    std::vector<float> own(width * cells);
    if (!widen(planes + first * cells, width * cells, own.data())) refuse();
    for (int64_t cell = 0; cell < cells; ++cell) {
      float* row = rows.data() + cell * channels + first;
      for (int64_t c = 0; c < width; ++c) row[c] = own[c * cells + cell];
    }
  });
  return rows;
}

// y [n, width] = x [width, n], whose rows are `stride` apart.
template <typename T>
void columns_to_rows(const T* x, int64_t stride, int64_t width, int64_t n, T* y) {
  for (int64_t c = 0; c < width; ++c) {
    for (int64_t i = 0; i < n; ++i) y[i * width + c] = x[c * stride + i];
  }
}

#ifdef __SSE2__
// Eight by eight halves at once.
void columns_to_rows(const uint16_t* x, int64_t stride, int64_t width, int64_t n, uint16_t* y) {
  const int64_t tiled_width = width / 8 * 8, tiled = n / 8 * 8;
  for (int64_t c = 0; c < tiled_width; c += 8) {
    for (int64_t i = 0; i < tiled; i += 8) {
      __m128i a[8], b[8];
      for (int k = 0; k < 8; ++k) {
        a[k] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + (c + k) * stride + i));
      }
      for (int k = 0; k < 4; ++k) {
        b[k] = _mm_unpacklo_epi16(a[2 * k], a[2 * k + 1]);
        b[k + 4] = _mm_unpackhi_epi16(a[2 * k], a[2 * k + 1]);
      }
      for (int k = 0; k < 4; ++k) {
        a[2 * k] = _mm_unpacklo_epi32(b[2 * k], b[2 * k + 1]);
        a[2 * k + 1] = _mm_unpackhi_epi32(b[2 * k], b[2 * k + 1]);
      }
      // a[0], a[2]: cells 0 and 1 of planes 0 to 3 and 4 to 7; a[1], a[3]: cells 2 and 3; so on.
      for (int k = 0; k < 8; ++k) {
        const __m128i low = a[k / 4 * 4 + k / 2 % 2], high = a[k / 4 * 4 + k / 2 % 2 + 2];
        const __m128i row = k % 2 ? _mm_unpackhi_epi64(low, high) : _mm_unpacklo_epi64(low, high);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(y + (i + k) * width + c), row);
      }
    }
    for (int64_t i = tiled; i < n; ++i) {
      for (int64_t k = c; k < c + 8; ++k) y[i * width + k] = x[k * stride + i];
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = tiled_width; c < width; ++c) y[i * width + c] = x[c * stride + i];
  }
}
#endif

// From planes that no cache holds. A block's cells are read plane by plane, in their order: that is
// a stream, which the processor sends for by itself. Tiles of what was read become rows afterwards,
// out of the second-level cache.
template <typename T>
class PlaneReader {
 public:
  PlaneReader(const T* planes, int64_t channels, int64_t cells, const Taps& taps)
      : planes_(planes),
        channels_(channels),
        cells_(cells),
        taps_(taps),
        block_(kCellsOfBlock * kPlanes),
        tile_(kCellsOfTile * kPlanes),
        rows_(tile_.size()),
        cell_(kCellsOfBlock),
        own_(kCellsOfTile),
        weight_(kCellsOfTile) {
    std::iota(own_.begin(), own_.end(), 0);
  }

  // The planes from `first` on, `kPlanes` or fewer, for `count` places of those in `order`.
  void add_to(float* sums, int64_t first, const int32_t* order, int64_t count,
              const int32_t* target) {
    const int64_t width = std::min(kPlanes, channels_ - first), per = taps_.per_place;
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(taps_.cell.data() + order[i] * per, per, cell_.data() + i * per);
    }
    const int64_t read = count * per;
    for (int64_t c = 0; c < width; ++c) {
      const T* plane = planes_ + (first + c) * cells_;
      const T* next = c + 1 < width ? plane + cells_ : plane;
      T* found = block_.data() + c * read;
      for (int64_t i = 0; i < read; ++i) {
        found[i] = plane[cell_[i]];
        __builtin_prefetch(next + cell_[i], 0, 2);
      }
    }
    const int64_t places = kCellsOfTile / per;
    for (int64_t begin = 0; begin < count; begin += places) {
      add_tile(sums + first, width, read, order, begin, std::min(count, begin + places), target);
    }
  }

 private:
  void add_tile(float* sums, int64_t width, int64_t read, const int32_t* order, int64_t begin,
                int64_t end, const int32_t* target) {
    const int64_t per = taps_.per_place, cells = (end - begin) * per;
    columns_to_rows(block_.data() + begin * per, read, width, cells, tile_.data());
    if (!widen(tile_.data(), cells * width, rows_.data())) refuse();
    int32_t rows[kCellsOfTile];
    for (int64_t i = begin; i < end; ++i) {
      rows[i - begin] = target[order[i]];
      if (per == 1) continue;
      std::copy_n(taps_.weight.data() + order[i] * per, per, weight_.data() + (i - begin) * per);
    }
    add(rows_.data(), width, per, {own_.data(), weight_.data(), rows, end - begin}, sums,
        channels_);
  }

  const T* planes_;
  const int64_t channels_, cells_;
  const Taps& taps_;
  std::vector<T> block_, tile_;
  std::vector<float> rows_;
  std::vector<int32_t> cell_, own_;
  std::vector<float> weight_;
};

// Places in the order of their first cells: neighbours in the planes follow each other.
std::vector<int32_t> by_cell(const Taps& taps, int64_t cells) {
  std::vector<int32_t> start(cells + 1), order(taps.places());
  const int64_t n = taps.places(), per = taps.per_place;
  for (int64_t i = 0; i < n; ++i) ++start[taps.cell[i * per] + 1];
  for (int64_t cell = 0; cell < cells; ++cell) start[cell + 1] += start[cell];
  for (int64_t i = 0; i < n; ++i) order[start[taps.cell[i * per]]++] = static_cast<int32_t>(i);
  return order;
}

}  // namespace

Taps nearest_cells(GridSize grid, GridSize image, const int32_t* row, const int32_t* column,
                   int64_t n) {
  Taps taps;
  taps.cell.resize(n);
  for (int64_t i = 0; i < n; ++i) {
    taps.cell[i] = static_cast<int32_t>(row[i] * grid.height / image.height * grid.width +
                                        column[i] * grid.width / image.width);
  }
  return taps;
}

Taps bilinear_cells(GridSize grid, GridSize image, const int32_t* row, const int32_t* column,
                    int64_t n) {
  const Axis rows(grid.height, image.height), columns(grid.width, image.width);
  Taps taps;
  taps.per_place = 4;
  taps.cell.resize(4 * n);
  taps.weight.resize(4 * n);
  const auto width = static_cast<int32_t>(grid.width);
  for (int64_t i = 0; i < n; ++i) {
    const int32_t r = row[i], c = column[i];
    const float down = rows.share[r], right = columns.share[c];
    const int32_t cell[4] = {
        rows.lower[r] * width + columns.lower[c], rows.lower[r] * width + columns.upper[c],
        rows.upper[r] * width + columns.lower[c], rows.upper[r] * width + columns.upper[c]};
    const float weight[4] = {(1 - down) * (1 - right), (1 - down) * right, down * (1 - right),
                             down * right};
    std::copy_n(cell, 4, taps.cell.begin() + 4 * i);
    std::copy_n(weight, 4, taps.weight.begin() + 4 * i);
  }
  return taps;
}

template <typename T>
void add_planes(const T* planes, int64_t channels, int64_t cells, const Taps& taps,
                const int32_t* target, float* sums, const ParallelFor& parallel_for) {
  const auto held = hold_kernels();
  const int64_t n = taps.places(), per = taps.per_place;
  if (cells <= kCellsOfTable) {
    const std::vector<float> rows = rows_of_planes(planes, channels, cells, parallel_for);
    for_row_blocks(n, channels, parallel_for, [&](int64_t begin, int64_t end) {
      const float* weight = per > 1 ? taps.weight.data() + begin * per : nullptr;
      add(rows.data(), channels, per,
          {taps.cell.data() + begin * per, weight, target + begin, end - begin}, sums, channels);
    });
    return;
  }
  const std::vector<int32_t> order = by_cell(taps, cells);
  const int64_t places = kCellsOfBlock / per, groups = ceil_div(channels, kPlanes);
  const int64_t pieces = ceil_div(n, places) * groups;
  const int64_t tasks = std::min(pieces, 2 * parallel_for.threads());
  parallel_for(tasks, [&](int64_t task) {
    // Its memory is worth more than one piece: new pages are slow to come by.
    PlaneReader<T> reader(planes, channels, cells, taps);
    for (int64_t piece = task; piece < pieces; piece += tasks) {
      const int64_t begin = piece / groups * places, first = piece % groups * kPlanes;
      reader.add_to(sums, first, order.data() + begin, std::min(places, n - begin), target);
    }
  });
}

template <typename T>
void add_rows(const T* table, int64_t rows, int64_t channels, const int32_t* index,
              const int32_t* target, int64_t n, float* sums, const ParallelFor& parallel_for) {
  const auto held = hold_kernels();
  // Rows are widened once where points share them, else as they are read.
  const bool whole = rows <= n;
  std::vector<float> wide(whole ? rows * channels : 0);
  if (whole && !widen(table, rows * channels, wide.data())) refuse();
  for_row_blocks(n, channels, parallel_for, [&](int64_t begin, int64_t end) {
    const auto& view = kernels().view;
    if (whole) {
      view.add_cells(wide.data(), channels, index + begin, end - begin, channels, sums, channels,
                     target + begin);
      return;
    }
    std::vector<float> row(channels);
    const int32_t only = 0;
    for (int64_t i = begin; i < end; ++i) {
      if (!widen(table + index[i] * channels, channels, row.data())) refuse();
      view.add_cells(row.data(), channels, &only, 1, channels, sums, channels, target + i);
    }
  });
}

template void add_planes(const float*, int64_t, int64_t, const Taps&, const int32_t*, float*,
                         const ParallelFor&);
template void add_planes(const uint16_t*, int64_t, int64_t, const Taps&, const int32_t*, float*,
                         const ParallelFor&);
template void add_rows(const float*, int64_t, int64_t, const int32_t*, const int32_t*, int64_t,
                       float*, const ParallelFor&);
template void add_rows(const uint16_t*, int64_t, int64_t, const int32_t*, const int32_t*, int64_t,
                       float*, const ParallelFor&);

}  // namespace uov
