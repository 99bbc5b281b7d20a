#include "core/plan.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <stdexcept>

#include "core/coordinates.h"
#include "core/plan_limits.h"
#include "core/radix_sort.h"

namespace uov {
namespace {

constexpr auto key_of = [](const KeyedRow& row) { return row.key; };

std::string describe(const int32_t* c) {
  return "(" + std::to_string(c[0]) + ", " + std::to_string(c[1]) + ", " + std::to_string(c[2]) +
         ", " + std::to_string(c[3]) + ")";
}

void fill_absent(int32_t* array, int64_t size) { std::fill_n(array, size, -1); }

struct Column {
  int dx, dy;
};

// All pairs (u, v = u + offset) whose offset lies in one (dx, dy) column, written together with
// their mirror images: the slices of the map that nothing else writes. In the centre column only
// dz > 0 is walked: the rest is its mirror.
void fill_column(const std::vector<KeyedRow>& rows, Column column, int radius, int64_t step,
                 int64_t capacity, int32_t* map) {
  const int kernel = 2 * radius + 1;
  const bool centre = column.dx == 0 && column.dy == 0;
  const int64_t shift = key_delta(column.dx * step, column.dy * step, 0);
  const int64_t below = centre ? step : -radius * step;
  // Strides and dilations are powers of two.
  const int step_bits = lowest_bit(static_cast<uint64_t>(step));
  const int64_t base = (column.dx + radius) + int64_t{kernel} * (column.dy + radius);
  const int64_t per_z = int64_t{kernel} * kernel;
  const int64_t last = per_z * kernel - 1;
  for (int64_t k = base; k <= last; k += per_z) {
    fill_absent(map + k * capacity, capacity);
    if (!centre) fill_absent(map + (last - k) * capacity, capacity);
  }
  if (centre) {
    for (const KeyedRow& r : rows) map[last / 2 * capacity + r.row] = r.row;
  }
  const size_t n = rows.size();
  size_t first = 0;
  for (size_t i = 0; i < n; ++i) {
    const int64_t low = rows[i].key + shift + below;
    const int64_t high = rows[i].key + shift + radius * step;
    while (first < n && rows[first].key < low) ++first;
    for (size_t j = first; j < n && rows[j].key <= high; ++j) {
      const int64_t dz = rows[j].key - (rows[i].key + shift);
      if ((dz & (step - 1)) != 0) continue;
      const int64_t k = base + per_z * ((dz >> step_bits) + radius);
      map[k * capacity + rows[i].row] = rows[j].row;
      map[(last - k) * capacity + rows[j].row] = rows[i].row;
    }
  }
}

std::vector<Column> half_of_columns(int radius) {
  std::vector<Column> columns;
  for (int dx = 0; dx <= radius; ++dx) {
    for (int dy = dx == 0 ? 0 : -radius; dy <= radius; ++dy) columns.push_back({dx, dy});
  }
  return columns;
}

// The key of the voxel's parent: clear the lowest bit (in units of the stride) of every field.
int64_t parent_key(int64_t key, int32_t stride) {
  const int64_t bit =
      (int64_t{stride} << (2 * kFieldBits)) | (int64_t{stride} << kFieldBits) | int64_t{stride};
  return key & ~bit;
}

int8_t parent_slot(int64_t key, int32_t stride) {
  auto bit = [&](int field) { return (key & (int64_t{stride} << (field * kFieldBits))) != 0; };
  return static_cast<int8_t>(bit(2) + 2 * bit(1) + 4 * bit(0));
}

void clear(const PlanArrays& arrays) {
  const size_t levels = arrays.capacities.size();
  if (arrays.first != nullptr) fill_absent(arrays.first, 125 * arrays.capacities[0]);
  for (size_t level = 0; level < levels; ++level) {
    fill_absent(arrays.same[level], 27 * arrays.capacities[level]);
    if (level + 1 == levels) break;
    fill_absent(arrays.coords[level], 4 * arrays.capacities[level + 1]);
    fill_absent(arrays.down[level], 8 * arrays.capacities[level + 1]);
    fill_absent(arrays.down_transpose[level], 8 * arrays.capacities[level]);
  }
}

}  // namespace

std::vector<KeyedRow> sorted_rows(const int32_t* coords, int64_t n, int32_t tensor_stride) {
  check_tensor_stride(tensor_stride);
  std::vector<KeyedRow> rows(n);
  for (int64_t i = 0; i < n; ++i) {
    const int32_t* c = coords + 4 * i;
    if (!coordinate_is_legal(c[0], c[1], c[2], c[3], tensor_stride)) {
      throw std::invalid_argument("coordinate " + describe(c) + " in row " + std::to_string(i) +
                                  " is out of range: batch must be in [0, " +
                                  std::to_string(kBatchLimit) + "), x, y and z in [" +
                                  std::to_string(smallest_coordinate(tensor_stride)) + ", " +
                                  std::to_string(kCoordinateLimit) + "]");
    }
    if (((c[1] | c[2] | c[3]) & (tensor_stride - 1)) != 0) {
      throw std::invalid_argument("coordinate " + describe(c) + " in row " + std::to_string(i) +
                                  " is not a multiple of the tensor stride " +
                                  std::to_string(tensor_stride));
    }
    rows[i] = {coordinate_key(c[0], c[1], c[2], c[3]), static_cast<int32_t>(i)};
  }
  radix_sort(rows, key_of);
  for (int64_t i = 1; i < n; ++i) {
    if (rows[i].key == rows[i - 1].key) {
      throw std::invalid_argument("duplicate coordinate " + describe(coords + 4 * rows[i].row) +
                                  " in rows " + std::to_string(rows[i - 1].row) + " and " +
                                  std::to_string(rows[i].row));
    }
  }
  return rows;
}

std::vector<int32_t> with_batch(const int32_t* xyz, int64_t n, int32_t batch) {
  std::vector<int32_t> coords(4 * n);
  for (int64_t i = 0; i < n; ++i) {
    coords[4 * i] = batch;
    std::copy_n(xyz + 3 * i, 3, coords.data() + 4 * i + 1);
  }
  return coords;
}

void submanifold_map(const std::vector<KeyedRow>& rows, int kernel, int32_t tensor_stride,
                     int32_t dilation, int64_t row_capacity, int32_t* map,
                     const ParallelFor& parallel_for) {
  check_submanifold_kernel(kernel, dilation);
  if (static_cast<int64_t>(rows.size()) > row_capacity) {
    throw std::invalid_argument("submanifold_map: " + std::to_string(rows.size()) +
                                " coordinates do not fit " + std::to_string(row_capacity) +
                                " rows");
  }
  const int radius = kernel / 2;
  const std::vector<Column> columns = half_of_columns(radius);
  parallel_for(static_cast<int64_t>(columns.size()), [&](int64_t i) {
    fill_column(rows, columns[i], radius, int64_t{tensor_stride} * dilation, row_capacity, map);
  });
}

Coarsening coarsen(const std::vector<KeyedRow>& fine, int32_t tensor_stride) {
  Coarsening result;
  std::vector<KeyedRow> children(fine.size());
  result.slot.resize(fine.size());
  result.parent.resize(fine.size());
  for (size_t i = 0; i < fine.size(); ++i) {
    children[i] = {parent_key(fine[i].key, tensor_stride), fine[i].row};
    result.slot[fine[i].row] = parent_slot(fine[i].key, tensor_stride);
  }
  radix_sort(children, key_of);
  for (const KeyedRow& child : children) {
    if (result.rows.empty() || result.rows.back().key != child.key) {
      result.rows.push_back({child.key, static_cast<int32_t>(result.rows.size())});
    }
    result.parent[child.row] = result.rows.back().row;
  }
  return result;
}

void strided_maps(const Coarsening& coarsening, int64_t fine_capacity, int64_t coarse_capacity,
                  int32_t* forward, int32_t* transpose) {
  fill_absent(forward, 8 * coarse_capacity);
  fill_absent(transpose, 8 * fine_capacity);
  for (size_t row = 0; row < coarsening.parent.size(); ++row) {
    const int32_t parent = coarsening.parent[row];
    const int64_t slot = coarsening.slot[row];
    forward[slot * coarse_capacity + parent] = static_cast<int32_t>(row);
    transpose[slot * fine_capacity + static_cast<int64_t>(row)] = parent;
  }
}

std::vector<int32_t> build_plan(const std::vector<KeyedRow>& level0, const PlanArrays& arrays,
                                const ParallelFor& parallel_for) {
  const int levels = static_cast<int>(arrays.capacities.size());
  check_levels(levels);
  std::vector<Coarsening> coarser(levels - 1);
  auto rows_of = [&](int level) -> const std::vector<KeyedRow>& {
    return level == 0 ? level0 : coarser[level - 1].rows;
  };
  std::vector<std::function<void()>> tasks;
  auto add_map = [&](int level, int radius, int32_t* map) {
    for (const Column& column : half_of_columns(radius)) {
      tasks.push_back([&, level, radius, map, column] {
        fill_column(rows_of(level), column, radius, int64_t{1} << level, arrays.capacities[level],
                    map);
      });
    }
  };
  auto run_tasks = [&] {
    parallel_for(static_cast<int64_t>(tasks.size()), [&](int64_t i) { tasks[i](); });
    tasks.clear();
  };
  // Each level needs the one before it: while they are found, the maps of level 0 are filled.
  tasks.push_back([&] {
    for (int level = 1; level < levels; ++level) {
      coarser[level - 1] = coarsen(rows_of(level - 1), 1 << (level - 1));
    }
  });
  if (static_cast<int64_t>(level0.size()) <= arrays.capacities[0]) {
    if (arrays.first != nullptr) add_map(0, 2, arrays.first);
    add_map(0, 1, arrays.same[0]);
  }
  run_tasks();
  std::vector<int32_t> counts;
  bool refused = false;
  for (int level = 0; level < levels; ++level) {
    counts.push_back(static_cast<int32_t>(rows_of(level).size()));
    refused = refused || counts[level] > arrays.capacities[level];
  }
  if (refused) {
    clear(arrays);
    return counts;
  }
  for (int level = 1; level < levels; ++level) {
    add_map(level, 1, arrays.same[level]);
    tasks.push_back([&, level] {
      const int64_t capacity = arrays.capacities[level];
      strided_maps(coarser[level - 1], arrays.capacities[level - 1], capacity,
                   arrays.down[level - 1], arrays.down_transpose[level - 1]);
      int32_t* coords = arrays.coords[level - 1];
      for (const KeyedRow& row : rows_of(level)) unpack_key(row.key, coords + int64_t{4} * row.row);
      const int64_t count = counts[level];
      fill_absent(coords + 4 * count, 4 * (capacity - count));
    });
  }
  run_tasks();
  return counts;
}

}  // namespace uov
