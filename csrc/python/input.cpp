// Host functions of the input pipeline. They run in the caller's thread, and without Python's lock
// where they take more than a moment.
#include <pybind11/stl.h>

#include <array>
#include <cstring>
#include <optional>
#include <tuple>

#include "core/byte_planes.h"
#include "core/moves.h"
#include "core/pairs.h"
#include "core/projection.h"
#include "core/sweep_columns.h"
#include "core/voxelize.h"
#include "python/arrays.h"

namespace uov {
namespace {

using Columns = std::array<Int32, 4>;
using Ids = py::array_t<uint16_t, py::array::c_style>;
using Bytes = py::array_t<uint8_t, py::array::c_style>;
// first row, end row, first column, end column
using Corners = std::array<int64_t, 4>;
// start, ids, height, width, masks
using Runs = std::tuple<Int32, Ids, int64_t, int64_t, int64_t>;

PairColumns columns_of(const Columns& pairs) {
  for (const Int32& column : pairs) require_length(column, "pairs", pairs[0].size());
  return {pairs[0].data(), pairs[1].data(), pairs[2].data(), pairs[3].data(), pairs[0].size()};
}

py::tuple to_columns(const std::vector<Pair>& pairs) {
  const auto count = static_cast<py::ssize_t>(pairs.size());
  Int32 point(count), camera(count), row(count), column(count);
  int32_t *a = point.mutable_data(), *b = camera.mutable_data();
  int32_t *c = row.mutable_data(), *d = column.mutable_data();
  for (py::ssize_t i = 0; i < count; ++i) {
    const Pair& pair = pairs[i];
    a[i] = pair.point, b[i] = pair.camera, c[i] = pair.row, d[i] = pair.column;
  }
  return py::make_tuple(point, camera, row, column);
}

Camera camera_of(const double* numbers, const int64_t* size, double least_depth) {
  Camera camera{};
  std::memcpy(camera.numbers, numbers, sizeof(camera.numbers));
  camera.height = size[0];
  camera.width = size[1];
  camera.least_depth = least_depth;
  return camera;
}

std::vector<Camera> cameras_of(const Float64& numbers,
                               const py::array_t<int64_t, py::array::c_style>& sizes,
                               double least_depth) {
  if (numbers.ndim() != 3 || numbers.shape(1) != 4 || numbers.shape(2) != 4) {
    throw std::invalid_argument("cameras must have shape [C, 4, 4]");
  }
  require_shape(sizes, "sizes", 2);
  if (sizes.shape(0) != numbers.shape(0)) throw std::invalid_argument("a size for every camera");
  std::vector<Camera> cameras;
  for (py::ssize_t i = 0; i < numbers.shape(0); ++i) {
    cameras.push_back(camera_of(numbers.data() + 16 * i, sizes.data() + 2 * i, least_depth));
  }
  return cameras;
}

py::tuple project_points(PointRows points, const Float64& cameras,
                         const py::array_t<int64_t, py::array::c_style>& sizes,
                         double least_depth) {
  const std::vector<Camera> all = cameras_of(cameras, sizes, least_depth);
  if (all.size() != 1) throw std::invalid_argument("expected one camera");
  const Points rows = points_of(points);
  py::array_t<double> pixels({rows.count, int64_t{2}}), depth(rows.count);
  py::array_t<bool> seen(rows.count);
  project(rows, all[0], pixels.mutable_data(), depth.mutable_data(), seen.mutable_data());
  return py::make_tuple(pixels, depth, seen);
}

py::tuple find_pairs(PointRows points, const Float64& cameras,
                     const py::array_t<int64_t, py::array::c_style>& sizes, double least_depth) {
  const std::vector<Camera> all = cameras_of(cameras, sizes, least_depth);
  const Points rows = points_of(points);
  std::vector<Pair> pairs;
  {
    py::gil_scoped_release release;
    pairs = pair_points(rows, all);
  }
  return to_columns(pairs);
}

bool is_plausible_sweep(const Float32& table, const std::vector<std::array<float, 2>>& ranges,
                        const std::vector<bool>& whole, const std::vector<bool>& positions,
                        float nearest) {
  require_shape(table, "table", static_cast<py::ssize_t>(ranges.size()));
  if (whole.size() != ranges.size() || positions.size() != ranges.size()) {
    throw std::invalid_argument("whole and positions must say something of every column");
  }
  std::vector<ColumnRange> columns;
  for (size_t i = 0; i < ranges.size(); ++i) {
    columns.push_back({ranges[i][0], ranges[i][1], whole[i], positions[i]});
  }
  py::gil_scoped_release release;
  return sweep_is_plausible(table.data(), table.shape(0), columns, nearest);
}

Float32 moved_points(PointRows points, const std::optional<std::array<float, 2>>& turn,
                     std::array<float, 2> signs, float factor) {
  const Points rows = points_of(points);
  Float32 moved({rows.count, int64_t{3}});
  const std::array<float, 2> angle = turn.value_or(std::array<float, 2>{1, 0});
  const Move move{turn.has_value(), angle[0], angle[1], signs[0], signs[1], factor};
  float* out = moved.mutable_data();
  py::gil_scoped_release release;
  move_points(rows, move, out);
  return moved;
}

std::array<float, 3> extent_of(PointRows points) {
  std::array<float, 3> sides{};
  extent(points_of(points), sides.data());
  return sides;
}

Int32 rows_outside_box(PointRows points, std::array<float, 3> centre,
                       std::array<float, 3> half_sides) {
  return to_numpy(outside_box(points_of(points), centre.data(), half_sides.data()));
}

py::tuple keep_pairs_of_points(const Columns& pairs, const Int32& kept, int64_t num_points) {
  const std::vector<int32_t> rows(kept.data(), kept.data() + kept.size());
  return to_columns(pairs_of_points(columns_of(pairs), rows, num_points));
}

int64_t pixels_inside(const Int32& rows, const Int32& columns, const Corners& window) {
  require_length(columns, "columns", rows.size());
  return count_inside(rows.data(), columns.data(), rows.size(),
                      {window[0], window[1], window[2], window[3]});
}

py::tuple keep_pairs_inside(const Columns& pairs, const std::vector<Corners>& windows) {
  std::vector<Window> all;
  for (const Corners& window : windows) {
    all.push_back({window[0], window[1], window[2], window[3]});
  }
  return to_columns(pairs_inside(columns_of(pairs), all));
}

MaskRuns runs_of(const Runs& runs) {
  const auto& [start, ids, height, width, masks] = runs;
  require_length(ids, "ids", start.size());
  if (start.size() == 0) throw std::invalid_argument("there must be a run");
  return {start.data(), ids.data(), start.size(), height, width, masks};
}

py::object starts_of_runs(const py::array_t<int64_t, py::array::c_style>& lengths, int64_t pixels) {
  require_length(lengths, "lengths", lengths.size());
  Int32 start(lengths.size());
  if (!run_starts(lengths.data(), lengths.size(), pixels, start.mutable_data())) return py::none();
  return start;
}

Ids joined_planes(const Bytes& planes) {
  if (planes.ndim() != 2 || planes.shape(0) != 2) {
    throw std::invalid_argument("planes must have shape [2, n]");
  }
  Ids joined(planes.shape(1));
  join_planes(planes.data(), planes.shape(1), joined.mutable_data());
  return joined;
}

bool are_finite_halves(const Ids& halves) { return all_finite(halves.data(), halves.size()); }

Ids ids_of_pixels(const Runs& runs, const Int32& rows, const Int32& columns) {
  require_length(columns, "columns", rows.size());
  Ids ids(rows.size());
  look_up(runs_of(runs), rows.data(), columns.data(), rows.size(), ids.mutable_data());
  return ids;
}

py::tuple groups_of_pairs(const Columns& pairs, const std::vector<Runs>& cameras) {
  std::vector<MaskRuns> all;
  for (const Runs& runs : cameras) all.push_back(runs_of(runs));
  const PairColumns columns = columns_of(pairs);
  Groups groups;
  {
    py::gil_scoped_release release;
    groups = group_pairs(columns, all);
  }
  return py::make_tuple(to_numpy(groups.pair_point), to_numpy(groups.pair_superpoint),
                        to_numpy(groups.mask));
}

// Writes the voxels [V, 3] of sweeps into the rows (sweep, x, y, z) of level 0, one after the
// other. What is left of it becomes -1.
void place_coords(Int32 level0, const std::vector<Int32>& sweeps) {
  require_shape(level0, "level0", 4);
  int64_t total = 0;
  for (const Int32& sweep : sweeps) {
    require_shape(sweep, "a sweep", 3);
    total += sweep.shape(0);
  }
  if (total > level0.shape(0)) throw std::invalid_argument("more voxels than rows of level 0");
  int32_t* out = level0.mutable_data();
  for (size_t number = 0; number < sweeps.size(); ++number) {
    const int32_t* xyz = sweeps[number].data();
    for (py::ssize_t i = 0; i < sweeps[number].shape(0); ++i, xyz += 3, out += 4) {
      out[0] = static_cast<int32_t>(number);
      out[1] = xyz[0], out[2] = xyz[1], out[3] = xyz[2];
    }
  }
  std::memset(out, 0xff, sizeof(int32_t) * 4 * (level0.shape(0) - total));
}

py::tuple voxels_in_order(PointRows points, std::array<float, 3> size, bool cylindrical) {
  const Points rows = points_of(points);
  Voxels voxels;
  {
    py::gil_scoped_release release;
    voxels = sorted_voxels(rows, size.data(), cylindrical);
  }
  const auto count = static_cast<py::ssize_t>(voxels.first.size());
  return py::make_tuple(to_numpy(voxels.coords, {count, 3}), to_numpy(voxels.first),
                        to_numpy(voxels.inverse));
}

}  // namespace

void add_input_functions(py::module_& m) {
  m.def("is_plausible_sweep", &is_plausible_sweep, py::arg("table"), py::arg("ranges"),
        py::arg("whole"), py::arg("positions"), py::arg("nearest"));
  m.def("project_points", &project_points, py::arg("points"), py::arg("camera"), py::arg("size"),
        py::arg("least_depth"));
  m.def("pair_points", &find_pairs, py::arg("points"), py::arg("cameras"), py::arg("sizes"),
        py::arg("least_depth"));
  m.def("moved_points", &moved_points, py::arg("points"), py::arg("turn").none(true),
        py::arg("signs"), py::arg("factor"));
  m.def("extent", &extent_of, py::arg("points"));
  m.def("outside_box", &rows_outside_box, py::arg("points"), py::arg("centre"),
        py::arg("half_sides"));
  m.def("pairs_of_points", &keep_pairs_of_points, py::arg("pairs"), py::arg("kept"),
        py::arg("num_points"));
  m.def("count_inside", &pixels_inside, py::arg("rows"), py::arg("columns"), py::arg("window"));
  m.def("pairs_inside", &keep_pairs_inside, py::arg("pairs"), py::arg("windows"));
  m.def("run_starts", &starts_of_runs, py::arg("lengths"), py::arg("pixels"));
  m.def("joined_planes", &joined_planes, py::arg("planes"));
  m.def("are_finite_halves", &are_finite_halves, py::arg("halves"));
  m.def("look_up", &ids_of_pixels, py::arg("runs"), py::arg("rows"), py::arg("columns"));
  m.def("group_pairs", &groups_of_pairs, py::arg("pairs"), py::arg("cameras"));
  m.def("place_coords", &place_coords, py::arg("level0").noconvert(), py::arg("sweeps"));
  m.def("sorted_voxels", &voxels_in_order, py::arg("points"), py::arg("size"),
        py::arg("cylindrical"));
}

}  // namespace uov
