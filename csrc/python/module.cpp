// The extension module: custom-call capsules, and host functions on numpy arrays.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <optional>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "core/farthest_points.h"
#include "core/kernel_choice.h"
#include "core/kernels.h"
#include "core/level_counts.h"
#include "core/own_threads.h"
#include "core/plan.h"
#include "core/product.h"
#include "core/view.h"
#include "core/view_features.h"
#include "core/voxelize.h"
#include "ffi/handlers.h"
#include "ffi/thread_pool.h"
#include "python/arrays.h"

namespace py = pybind11;

namespace {

using uov::require_shape;
using uov::to_numpy;
using Coordinates = uov::Int32;
using Points = uov::Float32;
using Matrix = uov::Float64;

py::dict handlers() {
  py::dict result;
#define UOV_ADD_HANDLER(name) \
  result["uov_" #name] = py::capsule(reinterpret_cast<void*>(uov_##name##_cpu));
  UOV_FOR_EACH_HANDLER(UOV_ADD_HANDLER)
#undef UOV_ADD_HANDLER
  return result;
}

uov::ParallelFor for_rows(int64_t rows, int64_t threads) {
  return uov::on_own_threads(uov::threads_worth(rows, threads));
}

py::tuple voxelize(uov::PointRows points, std::array<float, 3> size, bool cylindrical,
                   int64_t threads) {
  const uov::Points rows = uov::points_of(points);
  uov::Voxels voxels;
  {
    py::gil_scoped_release release;
    voxels = uov::voxelize(rows, size.data(), cylindrical, for_rows(rows.count, threads));
  }
  const auto count = static_cast<py::ssize_t>(voxels.first.size());
  return py::make_tuple(to_numpy(voxels.coords, {count, 3}), to_numpy(voxels.first, {count}),
                        to_numpy(voxels.inverse, {points.shape(0)}));
}

Coordinates farthest_points(const Points& points, int64_t count) {
  require_shape(points, "points", 3);
  std::vector<int32_t> rows;
  {
    py::gil_scoped_release release;
    rows = uov::farthest_points(points.data(), points.shape(0), count);
  }
  return to_numpy(rows, {static_cast<py::ssize_t>(rows.size())});
}

std::vector<uov::KeyedRow> sort(const Coordinates& coords, int32_t tensor_stride) {
  require_shape(coords, "coords", 4);
  return uov::sorted_rows(coords.data(), coords.shape(0), tensor_stride);
}

// Coordinates [n, 4], or [n, 3] of one cloud.
void require_coordinates(const Coordinates& coords) {
  if (coords.ndim() != 2 || coords.shape(1) < 3 || coords.shape(1) > 4) {
    throw std::invalid_argument("coords must have shape [N, 4], or [N, 3] of one cloud");
  }
}

Coordinates sorted_order(const Coordinates& coords) {
  require_coordinates(coords);
  const int64_t n = coords.shape(0), columns = coords.shape(1);
  Coordinates order(n);
  int32_t* out = order.mutable_data();
  py::gil_scoped_release release;
  std::vector<int32_t> cloud;
  if (columns == 3) cloud = uov::with_batch(coords.data(), n, 0);
  const auto rows = uov::sorted_rows(columns == 3 ? cloud.data() : coords.data(), n, 1);
  for (int64_t i = 0; i < n; ++i) out[i] = rows[i].row;
  return order;
}

bool is_in_order(const Coordinates& coords) {
  require_coordinates(coords);
  const int64_t columns = coords.shape(1);
  const int32_t* c = coords.data();
  for (int64_t i = 1; i < coords.shape(0); ++i, c += columns) {
    if (!std::lexicographical_compare(c, c + columns, c + columns, c + 2 * columns)) return false;
  }
  return true;
}

std::vector<int32_t> level_counts(const Coordinates& coords, int levels) {
  require_coordinates(coords);
  py::gil_scoped_release release;
  return uov::level_counts(coords.data(), coords.shape(0), coords.shape(1), levels);
}

Coordinates submanifold_map(const Coordinates& coords, int kernel, int32_t tensor_stride,
                            int32_t dilation, int64_t capacity, int64_t threads) {
  Coordinates map({int64_t{kernel} * kernel * kernel, capacity});
  int32_t* out = map.mutable_data();
  py::gil_scoped_release release;
  uov::submanifold_map(sort(coords, tensor_stride), kernel, tensor_stride, dilation, capacity, out,
                       for_rows(coords.shape(0), threads));
  return map;
}

// Where an int32 array [rows, columns] of a plan is to be written.
int32_t* to_write(Coordinates& array, int64_t rows, int64_t columns) {
  if (array.ndim() != 2 || array.shape(0) != rows || array.shape(1) != columns) {
    throw std::invalid_argument("an array of a plan must be [" + std::to_string(rows) + ", " +
                                std::to_string(columns) + "]");
  }
  return array.mutable_data();
}

// The counts of all levels. `level_coords` are those of levels 1 and up.
std::vector<int32_t> fill_plan(const Coordinates& coords, std::vector<Coordinates> same,
                               std::optional<Coordinates> first, std::vector<Coordinates> down,
                               std::vector<Coordinates> down_transpose,
                               std::vector<Coordinates> level_coords, int64_t threads) {
  const size_t levels = same.size();
  if (levels == 0) throw std::invalid_argument("a plan needs at least one level");
  if (down.size() + 1 != levels || down_transpose.size() + 1 != levels ||
      level_coords.size() + 1 != levels) {
    throw std::invalid_argument("a plan needs an array for every level and every step");
  }
  uov::PlanArrays arrays;
  for (Coordinates& map : same) {
    if (map.ndim() != 2) throw std::invalid_argument("a map must have shape [27, N]");
    arrays.capacities.push_back(map.shape(1));
    arrays.same.push_back(to_write(map, 27, map.shape(1)));
  }
  if (first) arrays.first = to_write(*first, 125, arrays.capacities[0]);
  for (size_t l = 0; l + 1 < levels; ++l) {
    arrays.down.push_back(to_write(down[l], 8, arrays.capacities[l + 1]));
    arrays.down_transpose.push_back(to_write(down_transpose[l], 8, arrays.capacities[l]));
    arrays.coords.push_back(to_write(level_coords[l], arrays.capacities[l + 1], 4));
  }
  py::gil_scoped_release release;
  return uov::build_plan(sort(coords, 1), arrays, for_rows(coords.shape(0), threads));
}

// A view's numbers as Python gives them: fx, fy, cx, cy; height, width.
template <typename T>
uov::SeenPoints look(const Points& points, const uov::PinholeView& view, const py::object& depth,
                     double units, double missing, double tolerance, int64_t threads) {
  // Where it has to be converted, the result lives no longer than this.
  py::array_t<T, py::array::c_style> kept;
  const T* values = nullptr;
  if (!depth.is_none()) {
    kept = depth.cast<py::array_t<T, py::array::c_style>>();
    if (kept.ndim() != 2 || kept.shape(0) != view.height || kept.shape(1) != view.width) {
      throw std::invalid_argument("depth must have the size of the view");
    }
    values = kept.data();
  }
  const uov::DepthImage<T> image{values, units, missing, tolerance};
  py::gil_scoped_release release;
  return uov::seen_points(points.data(), points.shape(0), view, image,
                          for_rows(points.shape(0), threads));
}

py::tuple seen_points(const Points& points, const Matrix& world_to_camera,
                      std::array<double, 4> pinhole, std::array<int64_t, 2> size, int64_t cut,
                      const py::object& depth, double units, double missing, double tolerance,
                      int64_t threads) {
  require_shape(points, "points", 3);
  require_shape(world_to_camera, "world_to_camera", 4);
  if (world_to_camera.shape(0) < 3) throw std::invalid_argument("world_to_camera needs 3 rows");
  uov::PinholeView view{{}, pinhole[0], pinhole[1], pinhole[2], pinhole[3], size[0], size[1], cut};
  std::copy_n(world_to_camera.data(), 12, view.world_to_camera);
  const bool coarse = !depth.is_none() && depth.cast<py::array>().dtype().kind() == 'u';
  const uov::SeenPoints seen =
      coarse ? look<uint16_t>(points, view, depth, units, missing, tolerance, threads)
             : look<float>(points, view, depth, units, missing, tolerance, threads);
  const auto count = static_cast<py::ssize_t>(seen.point.size());
  return py::make_tuple(to_numpy(seen.point, {count}), to_numpy(seen.row, {count}),
                        to_numpy(seen.column, {count}));
}

void require_below(const Coordinates& numbers, const char* name, int64_t end) {
  if (numbers.ndim() != 1) throw std::invalid_argument(std::string(name) + " must be one row");
  const int32_t* first = numbers.data();
  if (!std::all_of(first, first + numbers.size(), [&](int32_t i) { return i >= 0 && i < end; })) {
    throw std::invalid_argument(std::string(name) + " must be 0 up to " + std::to_string(end - 1));
  }
}

int64_t require_sums(const Points& sums, const Coordinates& target, int64_t channels) {
  require_shape(sums, "sums", channels);
  require_below(target, "target", sums.shape(0));
  return target.shape(0);
}

bool is_half(const py::array& features) {
  const bool half = features.dtype().kind() == 'f' && features.dtype().itemsize() == 2;
  if (!half && !py::isinstance<Points>(features)) {
    throw std::invalid_argument("features must be float16 or float32, row after row");
  }
  if (!(features.flags() & py::array::c_style)) {
    throw std::invalid_argument("features must lie row after row");
  }
  return half;
}

void add_planes(Points sums, const Coordinates& target, const py::array& planes,
                const Coordinates& row, const Coordinates& column, std::array<int64_t, 2> size,
                bool bilinear, int64_t threads) {
  if (planes.ndim() != 3 || planes.size() == 0) {
    throw std::invalid_argument("planes must have shape [D, h, w]");
  }
  const int64_t channels = planes.shape(0), n = require_sums(sums, target, channels);
  require_below(row, "row", size[0]);
  require_below(column, "column", size[1]);
  if (row.size() != n || column.size() != n) {
    throw std::invalid_argument("there must be a pixel for every target");
  }
  const bool half = is_half(planes);
  const uov::GridSize grid{planes.shape(1), planes.shape(2)}, image{size[0], size[1]};
  const void* values = planes.data();
  float* to = sums.mutable_data();
  py::gil_scoped_release release;
  const auto cells = bilinear ? &uov::bilinear_cells : &uov::nearest_cells;
  const uov::Taps taps = cells(grid, image, row.data(), column.data(), n);
  const uov::ParallelFor parallel_for = for_rows(n, threads);
  const int64_t count = grid.height * grid.width;
  if (half) {
    uov::add_planes(static_cast<const uint16_t*>(values), channels, count, taps, target.data(), to,
                    parallel_for);
  } else {
    uov::add_planes(static_cast<const float*>(values), channels, count, taps, target.data(), to,
                    parallel_for);
  }
}

void add_table_rows(Points sums, const Coordinates& target, const py::array& table,
                    const Coordinates& index, int64_t threads) {
  if (table.ndim() != 2) throw std::invalid_argument("table must have shape [T, D]");
  const int64_t rows = table.shape(0), channels = table.shape(1);
  const int64_t n = require_sums(sums, target, channels);
  require_below(index, "index", rows);
  if (index.size() != n) throw std::invalid_argument("there must be an index for every target");
  const bool half = is_half(table);
  const void* values = table.data();
  float* to = sums.mutable_data();
  py::gil_scoped_release release;
  const uov::ParallelFor parallel_for = for_rows(n, threads);
  if (half) {
    uov::add_rows(static_cast<const uint16_t*>(values), rows, channels, index.data(), target.data(),
                  n, to, parallel_for);
  } else {
    uov::add_rows(static_cast<const float*>(values), rows, channels, index.data(), target.data(), n,
                  to, parallel_for);
  }
}

int64_t product_tasks(const Coordinates& map, int64_t channels_out, int64_t threads) {
  if (map.ndim() != 2) throw std::invalid_argument("map must have shape [K, N]");
  const int64_t rows = map.shape(1);
  const uov::GatherGemmShape shape{map.shape(0), rows, rows, 1, channels_out};
  const int64_t tile = uov::row_kernels<float>().tile_columns;
  return static_cast<int64_t>(uov::cut_product(shape, map.data(), tile, threads).blocks.size());
}

py::tuple processor() {
  const uov::Processor found = uov::processor();
  return py::make_tuple(found.vendor, found.family, found.model);
}

void use_processors(int64_t count) {
  if (count < 1) throw std::invalid_argument("there must be a processor");
  uov::processors = count;
}

// A training step frees and allocates gigabytes. By default they go back to the system in between,
// which clears them again, page by page.
bool keep_freed_memory() {
#ifdef __GLIBC__
  return mallopt(M_MMAP_MAX, 0) == 1 && mallopt(M_TRIM_THRESHOLD, -1) == 1 &&
         mallopt(M_ARENA_MAX, 1) == 1;
#else
  return false;
#endif
}

// What is kept is cut into ever smaller pieces where work of several kinds takes turns.
void give_freed_memory_back() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

}  // namespace

PYBIND11_MODULE(_engine, m) {
  m.doc() = "Compiled sparse engine: XLA custom-call handlers and host functions.";
  m.def("handlers", &handlers, "XLA FFI handlers of the CPU backend, by custom-call name.");
  m.def(
      "instruction_set", [] { return uov::kernels().name; },
      "Which inner kernels run here: avx512_bf16, avx512, avx2 or generic.");
  m.def("kernels_left_out", &uov::kernels_left_out,
        "Names of the inner kernels that the compiler of this build could not make.");
  m.def(
      "keep_freed_memory", &keep_freed_memory,
      "Keep freed memory for later allocations of this process; false if it cannot be asked for.");
  m.def("give_freed_memory_back", &give_freed_memory_back,
        "The C library's free memory goes to the system, wherever it lies.");
  m.def("runnable_kernels", &uov::runnable_kernels,
        "Names of the inner kernels that can run here, from the plainest on.");
  m.def("use_kernels", &uov::use_kernels, py::arg("name"), py::call_guard<py::gil_scoped_release>(),
        "Run these from now on, once no op runs.");
  m.def("processor", &processor, "Vendor, family and model, as x86 processors say them.");
  m.def("use_processors", &use_processors, py::arg("count"),
        "Let handlers run on no more threads than these, however many XLA's pool has.");
  m.def("product_tasks", &product_tasks, py::arg("map"), py::arg("channels_out"),
        py::arg("threads"), "Into how many tasks a float32 gather_gemm is cut for its threads.");
  m.def("voxelize", &voxelize, py::arg("points"), py::arg("voxel_size"), py::arg("cylindrical"),
        py::arg("threads"));
  m.def("seen_points", &seen_points, py::arg("points"), py::arg("world_to_camera"),
        py::arg("pinhole"), py::arg("size"), py::arg("cut"), py::arg("depth").none(true),
        py::arg("units"), py::arg("missing"), py::arg("tolerance"), py::arg("threads"));
  m.def("add_planes", &add_planes, py::arg("sums").noconvert(), py::arg("target"),
        py::arg("planes"), py::arg("row"), py::arg("column"), py::arg("size"), py::arg("bilinear"),
        py::arg("threads"));
  m.def("add_rows", &add_table_rows, py::arg("sums").noconvert(), py::arg("target"),
        py::arg("table"), py::arg("index"), py::arg("threads"));
  m.def("farthest_points", &farthest_points, py::arg("points"), py::arg("count"));
  m.def("sorted_order", &sorted_order, py::arg("coords"));
  m.def("is_in_order", &is_in_order, py::arg("coords"));
  m.def("level_counts", &level_counts, py::arg("coords"), py::arg("levels"));
  m.def("submanifold_map", &submanifold_map, py::arg("coords"), py::arg("kernel"),
        py::arg("tensor_stride"), py::arg("dilation"), py::arg("capacity"), py::arg("threads"));
  m.def("fill_plan", &fill_plan, py::arg("coords"), py::arg("same").noconvert(),
        py::arg("first").noconvert().none(true), py::arg("down").noconvert(),
        py::arg("down_transpose").noconvert(), py::arg("level_coords").noconvert(),
        py::arg("threads"));
  uov::add_input_functions(m);
}
