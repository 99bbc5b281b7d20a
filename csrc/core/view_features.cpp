#include "core/view_features.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "core/kernel_choice.h"
#include "core/kernels.h"

namespace uov {
namespace {

// Places whose numbers are gathered from planes together: neighbours in each plane, whose sums of
// 768 channels stay in the second-level cache.
constexpr int64_t kPlaces = 64;
// Cells up to which `add_planes` makes rows of all of them first: those of a grid of patches.
constexpr int64_t kCellsOfTable = 4096;
// Planes that become columns of rows together: two cache lines of halves, four of float32 numbers.
constexpr int64_t kPlanes = 64;
// Planes between the one that is read and the one whose numbers are sent for.
constexpr int64_t kPlanesAhead = 8;

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

// From planes that no cache holds, for `kPlaces` places or fewer of those in `order`.
template <typename T>
class PlaneReader {
 public:
  PlaneReader(const T* planes, int64_t channels, int64_t cells, const Taps& taps)
      : planes_(planes),
        channels_(channels),
        cells_(cells),
        taps_(taps),
        found_(kPlaces * taps.per_place * kPlanes),
        rows_(found_.size()),
        cell_(kPlaces * taps.per_place),
        own_(cell_.size()),
        weight_(cell_.size()),
        target_(kPlaces) {
    std::iota(own_.begin(), own_.end(), 0);
  }

  void add_to(float* sums, const int32_t* order, int64_t count, const int32_t* target) {
    const int64_t per = taps_.per_place;
    for (int64_t i = 0; i < count; ++i) {
      target_[i] = target[order[i]];
      std::copy_n(taps_.cell.data() + order[i] * per, per, cell_.data() + i * per);
      if (per > 1) std::copy_n(taps_.weight.data() + order[i] * per, per, weight_.data() + i * per);
    }
    find_lines(count * per);
    const Places places{own_.data(), weight_.data(), target_.data(), count};
    for (int64_t first = 0; first < channels_; first += kPlanes) {
      const int64_t width = std::min(kPlanes, channels_ - first);
      for (int64_t c = 0; c < width; ++c) {
        const T* plane = planes_ + (first + c) * cells_;
        if (first + c + kPlanesAhead < channels_) fetch(plane + kPlanesAhead * cells_);
        for (int64_t i = 0; i < count * per; ++i) found_[i * width + c] = plane[cell_[i]];
      }
      if (!widen(found_.data(), count * per * width, rows_.data())) refuse();
      add(rows_.data(), width, per, places, sums + first, channels_);
    }
  }

 private:
  // One cell of each cache line, as far as places in order show them.
  void find_lines(int64_t count) {
    constexpr int64_t kCells = 64 / sizeof(T);
    lines_.clear();
    for (int64_t i = 0; i < count; ++i) {
      if (lines_.empty() || cell_[i] / kCells != lines_.back() / kCells) lines_.push_back(cell_[i]);
    }
  }

  // A few cache lines of each plane: too few for the processor to see where it goes.
  void fetch(const T* plane) const {
    for (const int32_t cell : lines_) __builtin_prefetch(plane + cell);
  }

  const T* planes_;
  const int64_t channels_, cells_;
  const Taps& taps_;
  std::vector<T> found_;
  std::vector<float> rows_;
  std::vector<int32_t> cell_, own_, lines_;
  std::vector<float> weight_;
  std::vector<int32_t> target_;
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
  const int64_t tasks = std::min(ceil_div(n, kPlaces), 4 * parallel_for.threads());
  parallel_for(tasks, [&](int64_t task) {
    PlaneReader<T> reader(planes, channels, cells, taps);
    const int64_t end = n * (task + 1) / tasks;
    for (int64_t i = n * task / tasks; i < end; i += kPlaces) {
      reader.add_to(sums, order.data() + i, std::min(kPlaces, end - i), target);
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
