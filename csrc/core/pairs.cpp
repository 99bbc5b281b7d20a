#include "core/pairs.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace uov {
namespace {

void require_camera(int32_t camera, size_t cameras) {
  if (camera < 0 || static_cast<size_t>(camera) >= cameras) {
    throw std::invalid_argument("a pair of camera " + std::to_string(camera) + ", there are " +
                                std::to_string(cameras));
  }
}

bool in_window(const Window& window, int32_t row, int32_t column) {
  return (row >= window.first_row) & (row < window.end_row) & (column >= window.first_column) &
         (column < window.end_column);
}

// The run of every row's first pixel, and one beyond the last run: a row has a few tens of an
// image's tens of thousands.
std::vector<int32_t> runs_of_rows(const MaskRuns& runs) {
  std::vector<int32_t> first(runs.height + 1);
  int64_t run = 0;
  for (int64_t row = 0; row < runs.height; ++row) {
    while (run + 1 < runs.runs && runs.start[run + 1] <= row * runs.width) ++run;
    first[row] = static_cast<int32_t>(run);
  }
  first[runs.height] = static_cast<int32_t>(runs.runs - 1);
  return first;
}

[[noreturn]] void refuse_pixel(const MaskRuns& runs, int32_t row, int32_t column) {
  throw std::invalid_argument("pixel row " + std::to_string(row) + ", column " +
                              std::to_string(column) + " leaves the image of " +
                              std::to_string(runs.height) + " x " + std::to_string(runs.width) +
                              " pixels");
}

}  // namespace

std::vector<Pair> pairs_of_points(const PairColumns& pairs, const std::vector<int32_t>& kept,
                                  int64_t num_points) {
  std::vector<int32_t> number(num_points, -1);
  for (size_t i = 0; i < kept.size(); ++i) number[kept[i]] = static_cast<int32_t>(i);
  std::vector<Pair> found(pairs.count);
  int64_t count = 0;
  for (int64_t i = 0; i < pairs.count; ++i) {
    const int32_t point = pairs.point[i];
    if (point < 0 || point >= num_points) {
      throw std::invalid_argument("a pair of point " + std::to_string(point) + ", there are " +
                                  std::to_string(num_points));
    }
    found[count] = {number[point], pairs.camera[i], pairs.row[i], pairs.column[i]};
    count += number[point] >= 0 ? 1 : 0;
  }
  found.resize(count);
  return found;
}

int64_t count_inside(const int32_t* rows, const int32_t* columns, int64_t count,
                     const Window& window) {
  int64_t inside = 0;
  for (int64_t i = 0; i < count; ++i) inside += in_window(window, rows[i], columns[i]) ? 1 : 0;
  return inside;
}

std::vector<Pair> pairs_inside(const PairColumns& pairs, const std::vector<Window>& windows) {
  std::vector<Pair> found(pairs.count);
  int64_t count = 0;
  for (int64_t i = 0; i < pairs.count; ++i) {
    const int32_t camera = pairs.camera[i];
    require_camera(camera, windows.size());
    found[count] = {pairs.point[i], camera, pairs.row[i], pairs.column[i]};
    count += in_window(windows[camera], pairs.row[i], pairs.column[i]) ? 1 : 0;
  }
  found.resize(count);
  return found;
}

bool run_starts(const int64_t* lengths, int64_t runs, int64_t pixels, int32_t* start) {
  int64_t next = 0;
  for (int64_t i = 0; i < runs; ++i) {
    if (lengths[i] <= 0 || lengths[i] > pixels - next) return false;
    start[i] = static_cast<int32_t>(next);
    next += lengths[i];
  }
  return runs > 0 && next == pixels;
}

void look_up(const MaskRuns& runs, const int32_t* rows, const int32_t* columns, int64_t count,
             uint16_t* ids) {
  if (count == 0) return;
  const std::vector<int32_t> first = runs_of_rows(runs);
  for (int64_t i = 0; i < count; ++i) {
    const int32_t row = rows[i], column = columns[i];
    if (row < 0 || row >= runs.height || column < 0 || column >= runs.width) {
      refuse_pixel(runs, row, column);
    }
    const auto pixel = static_cast<int32_t>(row * runs.width + column);
    // The last run that begins at the pixel or before; without a branch that depends on it.
    const int32_t* start = runs.start + first[row];
    int64_t length = first[row + 1] - first[row] + 1;
    while (length > 1) {
      const int64_t half = length / 2;
      start += start[half] <= pixel ? half : 0;
      length -= half;
    }
    ids[i] = runs.ids[start - runs.start];
  }
}

Groups group_pairs(const PairColumns& pairs, const std::vector<MaskRuns>& cameras) {
  std::vector<int32_t> first_mask{0};
  for (const MaskRuns& camera : cameras) {
    first_mask.push_back(first_mask.back() + static_cast<int32_t>(camera.masks));
  }
  std::vector<uint16_t> ids(pairs.count);
  for (int64_t begin = 0, end = 0; begin < pairs.count; begin = end) {
    const int32_t camera = pairs.camera[begin];
    require_camera(camera, cameras.size());
    while (end < pairs.count && pairs.camera[end] == camera) ++end;
    look_up(cameras[camera], pairs.row + begin, pairs.column + begin, end - begin,
            ids.data() + begin);
  }
  Groups groups;
  std::vector<int32_t> superpoint(first_mask.back(), -1);
  groups.pair_point.resize(pairs.count);
  groups.pair_superpoint.resize(pairs.count);
  int64_t count = 0;
  for (int64_t i = 0; i < pairs.count; ++i) {
    if (ids[i] == 0) continue;
    if (ids[i] > cameras[pairs.camera[i]].masks) {
      throw std::invalid_argument("mask id " + std::to_string(ids[i]) + ", but " +
                                  std::to_string(cameras[pairs.camera[i]].masks) + " masks");
    }
    const int32_t mask = first_mask[pairs.camera[i]] + ids[i] - 1;
    superpoint[mask] = 0;
    groups.pair_point[count] = pairs.point[i];
    groups.pair_superpoint[count++] = mask;
  }
  groups.pair_point.resize(count);
  groups.pair_superpoint.resize(count);
  for (size_t mask = 0; mask < superpoint.size(); ++mask) {
    if (superpoint[mask] < 0) continue;
    superpoint[mask] = static_cast<int32_t>(groups.mask.size());
    groups.mask.push_back(static_cast<int32_t>(mask));
  }
  for (int32_t& number : groups.pair_superpoint) number = superpoint[number];
  return groups;
}

}  // namespace uov
