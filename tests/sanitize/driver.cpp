// Every function of the core on memory of exactly the size that it may touch, on several threads
// and from several threads at once: what a sanitizer is to look at.
//
//   driver             ends with status 1 if results depend on the threads
//   driver MISTAKE     makes one of planted.h: read_out_of_bounds, overflow or race
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/coordinates.h"
#include "core/farthest_points.h"
#include "core/gather_gemm.h"
#include "core/kernel_choice.h"
#include "core/level_counts.h"
#include "core/moves.h"
#include "core/moving_average.h"
#include "core/norm.h"
#include "core/own_threads.h"
#include "core/pairs.h"
#include "core/plan.h"
#include "core/projection.h"
#include "core/rows.h"
#include "core/sweep_columns.h"
#include "core/view.h"
#include "core/view_features.h"
#include "core/voxelize.h"
#include "ffi/thread_pool.h"
#include "planted.h"
#include "pool.h"

namespace {

using uov::bfloat16;
using uov::ParallelFor;

constexpr int64_t kThreads = 4;

// Bytes of all results, in the order in which they were computed.
class Results {
 public:
  template <typename T>
  void add(const std::vector<T>& values) {
    const auto* bytes = reinterpret_cast<const char*>(values.data());
    bytes_.insert(bytes_.end(), bytes, bytes + values.size() * sizeof(T));
  }
  bool operator!=(const Results& other) const { return bytes_ != other.bytes_; }

 private:
  std::vector<char> bytes_;
};

// Made-up input, the same for the same seed.
class Maker {
 public:
  explicit Maker(uint32_t seed) : random_(seed) {}

  int64_t whole(int64_t least, int64_t most) {
    return std::uniform_int_distribution<int64_t>(least, most)(random_);
  }
  // Small whole numbers, whose sums of products are exact in float32, whatever their order.
  template <typename T>
  std::vector<T> rows(int64_t count) {
    std::vector<T> values(count);
    for (T& value : values) value = uov::from_float<T>(static_cast<float>(whole(-3, 3)));
    return values;
  }
  std::vector<int32_t> indices(int64_t count, int64_t least, int64_t end) {
    std::vector<int32_t> values(count);
    for (int32_t& value : values) value = static_cast<int32_t>(whole(least, end - 1));
    return values;
  }
  // Different coordinates, some of them at the ends of the range.
  std::vector<int32_t> coords(int64_t count) {
    std::map<int64_t, std::vector<int32_t>> found;
    while (static_cast<int64_t>(found.size()) < count) {
      const int32_t far = whole(0, 9) == 0 ? uov::kCoordinateLimit : 0;
      std::vector<int32_t> cell{static_cast<int32_t>(whole(0, 1))};
      for (int axis = 0; axis < 3; ++axis) {
        const int32_t near = static_cast<int32_t>(whole(0, 9));
        cell.push_back(whole(0, 1) == 0 ? far - near : near - far);
      }
      found.emplace(uov::coordinate_key(cell[0], cell[1], cell[2], cell[3]), cell);
    }
    std::vector<int32_t> flat;
    for (const auto& entry : found)
      flat.insert(flat.end(), entry.second.begin(), entry.second.end());
    return flat;
  }

 private:
  std::mt19937 random_;
};

struct Plan {
  std::vector<std::vector<int32_t>> coords, same, down, up;
  std::vector<int32_t> first, counts;
};

Plan plan_of(const std::vector<uov::KeyedRow>& rows, const std::vector<int64_t>& capacities,
             const ParallelFor& parallel_for) {
  Plan plan;
  uov::PlanArrays arrays;
  arrays.capacities = capacities;
  const size_t levels = capacities.size();
  plan.coords.resize(levels);
  plan.same.resize(levels);
  plan.down.resize(levels);
  plan.up.resize(levels);
  plan.first.resize(125 * capacities[0]);
  arrays.first = plan.first.data();
  for (size_t level = 0; level < levels; ++level) {
    plan.same[level].resize(27 * capacities[level]);
    arrays.same.push_back(plan.same[level].data());
    if (level + 1 == levels) break;
    plan.coords[level].resize(4 * capacities[level + 1]);
    plan.down[level].resize(8 * capacities[level + 1]);
    plan.up[level].resize(8 * capacities[level]);
    arrays.coords.push_back(plan.coords[level].data());
    arrays.down.push_back(plan.down[level].data());
    arrays.down_transpose.push_back(plan.up[level].data());
  }
  plan.counts = uov::build_plan(rows, arrays, parallel_for);
  return plan;
}

void run_coordinates(Maker& make, const ParallelFor& parallel_for, Results& results) {
  for (const int64_t count : {0, 1, 900}) {
    const std::vector<int32_t> coords = make.coords(count);
    const std::vector<uov::KeyedRow> rows = uov::sorted_rows(coords.data(), count, 1);
    results.add(uov::level_counts(coords.data(), count, 4, 5));
    for (const int64_t room : {std::max<int64_t>(1, count), count / 2 + 1}) {
      const Plan plan = plan_of(rows, {count + 1, room, room, room, room}, parallel_for);
      results.add(plan.counts);
      results.add(plan.first);
      for (const auto& map : plan.same) results.add(map);
      for (const auto& map : plan.up) results.add(map);
    }
    std::vector<int32_t> map(27 * (count + 3));
    uov::submanifold_map(rows, 3, 1, 2, count + 3, map.data(), parallel_for);
    results.add(map);
  }
  std::vector<float> points = make.rows<float>(3 * 5000);
  for (float& value : points) value *= 1.3f;
  const float size[3] = {0.1f, 1.0f, 0.1f};
  for (const bool cylindrical : {false, true}) {
    for (const uov::Voxels& voxels :
         {uov::voxelize({points.data(), 5000, 3}, size, cylindrical, parallel_for),
          uov::sorted_voxels({points.data(), 5000, 3}, size, cylindrical)}) {
      results.add(voxels.coords);
      results.add(voxels.first);
      results.add(voxels.inverse);
    }
  }
  results.add(uov::farthest_points(points.data(), 5000, 40));
  results.add(uov::voxelize({points.data(), 0, 3}, size, false, parallel_for).coords);
}

// What the input pipeline does with a sweep and its cameras, without threads of its own.
void run_input(Maker& make, Results& results) {
  const int64_t n = 4000, height = 60, width = 80, masks = 9;
  const std::vector<float> table = make.rows<float>(5 * n);
  const std::vector<uov::ColumnRange> columns(5, {-3, 3, true, true});
  const auto plausible = static_cast<int32_t>(uov::sweep_is_plausible(table.data(), n, columns, 0));
  results.add(std::vector<int32_t>{plausible});
  std::vector<float> moved(3 * n), extent(3);
  // The last point ends where the memory does.
  const uov::Points points{table.data() + 2, n, 5};
  uov::move_points(points, {true, 0.6f, 0.8f, -1, 1, 1.1f}, moved.data());
  results.add(moved);
  uov::extent({moved.data(), n, 3}, extent.data());
  const float centre[3] = {0, 0, 0}, sides[3] = {extent[0] / 4, extent[1] / 4, extent[2] / 4};
  const std::vector<int32_t> kept = uov::outside_box({moved.data(), n, 3}, centre, sides);
  results.add(kept);
  const uov::Camera camera{
      {{0, 0, 1, 3.5}, {30, 0, 40, 140}, {0, 30, 30, 105}, {0, 0, 1, 3.5}}, height, width, 1.0};
  std::vector<double> pixels(2 * n), depth(n);
  std::vector<char> seen(n);
  uov::project({moved.data(), n, 3}, camera, pixels.data(), depth.data(),
               reinterpret_cast<bool*>(seen.data()));
  results.add(seen);
  const std::vector<uov::Pair> pairs = uov::pair_points({moved.data(), n, 3}, {camera, camera});
  std::vector<std::vector<int32_t>> parts(4);
  for (const uov::Pair& pair : pairs) {
    parts[0].push_back(pair.point), parts[1].push_back(pair.camera);
    parts[2].push_back(pair.row), parts[3].push_back(pair.column);
  }
  const auto count = static_cast<int64_t>(pairs.size());
  const uov::PairColumns found{parts[0].data(), parts[1].data(), parts[2].data(), parts[3].data(),
                               count};
  const auto left = static_cast<int32_t>(uov::pairs_of_points(found, kept, n).size());
  const uov::Window window{height / 3, height, 0, width / 2};
  const auto inside =
      static_cast<int32_t>(uov::count_inside(found.row, found.column, count, window));
  const auto both = static_cast<int32_t>(uov::pairs_inside(found, {window, window}).size());
  results.add(std::vector<int32_t>{left, inside, both});
  const std::vector<int64_t> lengths(height * 2, width / 2);
  std::vector<int32_t> start(lengths.size());
  if (!uov::run_starts(lengths.data(), height * 2, height * width, start.data())) std::abort();
  std::vector<uint16_t> ids(lengths.size()), hit(count);
  for (uint16_t& id : ids) id = static_cast<uint16_t>(make.whole(0, masks));
  const uov::MaskRuns runs{start.data(), ids.data(), height * 2, height, width, masks};
  uov::look_up(runs, found.row, found.column, count, hit.data());
  results.add(hit);
  const uov::Groups groups = uov::group_pairs(found, {runs, runs});
  results.add(groups.pair_superpoint);
  results.add(groups.mask);
}

template <typename T>
void run_products(Maker& make, const ParallelFor& parallel_for, Results& results) {
  struct Size {
    int64_t rows, in, out;
  };
  // Odd channels, more than a panel has, few rows and many, and none at all.
  for (const Size& size : {Size{700, 16, 96}, Size{300, 67, 35}, Size{40, 5, 300}, Size{1, 3, 1},
                           Size{30, 300, 7}, Size{0, 3, 5}, Size{9, 0, 5}}) {
    const int64_t rows = size.rows;
    const std::vector<int32_t> coords = make.coords(rows);
    std::vector<int32_t> map(27 * rows);
    uov::submanifold_map(uov::sorted_rows(coords.data(), rows, 1), 3, 1, 1, rows, map.data(),
                         parallel_for);
    const uov::GatherGemmShape shape{27, rows, rows, size.in, size.out};
    const auto x = make.rows<T>(rows * size.in), w = make.rows<T>(27 * size.in * size.out);
    const auto dy = make.rows<T>(rows * size.out);
    std::vector<T> y(rows * size.out), dx(rows * size.in);
    std::vector<float> dw(27 * size.in * size.out), mean(size.out), m2(size.out);
    for (const bool transposed : {false, true}) {
      uov::gather_gemm<T>(shape, {transposed, transposed}, x.data(), w.data(), map.data(), nullptr,
                          y.data(), parallel_for);
      results.add(y);
    }
    uov::gather_gemm_moments<T>(shape, x.data(), w.data(), map.data(), rows, y.data(), mean.data(),
                                m2.data(), parallel_for);
    results.add(mean);
    const uov::RowAffine<T> after{mean.data(), m2.data(), mean.data(), dy.data(), true, rows / 2};
    uov::gather_gemm<T>(shape, {}, x.data(), w.data(), map.data(), &after, y.data(), parallel_for);
    results.add(y);
    uov::gather_gemm_dw<T>(shape, x.data(), dy.data(), map.data(), dw.data(), parallel_for);
    results.add(dw);
    uov::gather_gemm_gradients<T>(shape, x.data(), w.data(), dy.data(), map.data(), nullptr,
                                  dx.data(), dw.data(), parallel_for);
    results.add(dx);
    results.add(dw);
  }
}

template <typename T>
void run_rows(Maker& make, const ParallelFor& parallel_for, Results& results) {
  for (const int64_t rows : {0, 1, 65, 5000}) {
    const int64_t channels = rows > 1000 ? 33 : 7, moves = rows + 3;
    const auto x = make.rows<T>(rows * channels), dy = make.rows<T>(rows * channels);
    const std::vector<int32_t> source = make.indices(moves, -1, rows);
    const std::vector<int32_t> target = make.indices(moves, -1, rows);
    std::vector<T> gathered(moves * channels), y(rows * channels), other(rows * channels);
    uov::gather_rows(x.data(), rows, channels, source.data(), moves, gathered.data(), parallel_for);
    results.add(gathered);
    uov::gather_scatter_rows(x.data(), rows, channels, source.data(), target.data(), moves,
                             y.data(), rows, parallel_for);
    results.add(y);
    std::vector<float> mean(channels), m2(channels), one(channels, 1.0f);
    const uov::NormShape shape{rows, rows * 2 / 3, channels};
    uov::column_moments(shape, x.data(), mean.data(), m2.data(), parallel_for);
    uov::affine_rows<T>(shape, x.data(), mean.data(), one.data(), m2.data(), dy.data(), true,
                        y.data(), parallel_for);
    results.add(y);
    uov::affine_gradient_sums<T>(shape, dy.data(), y.data(), x.data(), mean.data(), m2.data(),
                                 one.data(), parallel_for);
    results.add(m2);
    uov::affine_gradient_rows<T>(shape, dy.data(), y.data(), x.data(), mean.data(), one.data(),
                                 m2.data(), one.data(), gathered.data(), other.data(),
                                 parallel_for);
    results.add(other);
  }
}

void run_units(Maker& make, const ParallelFor& parallel_for, Results& results) {
  const int64_t rows = 3000, channels = 35;
  const auto x = make.rows<float>(rows * channels), dy = make.rows<float>(rows * channels);
  std::vector<float> y(rows * channels), dx(rows * channels), inverse(rows);
  uov::unit_rows(x.data(), rows, channels, rows - 5, y.data(), inverse.data(), parallel_for);
  uov::unit_rows_gradient(dy.data(), y.data(), inverse.data(), rows, channels, rows - 5, dx.data(),
                          parallel_for);
  results.add(dx);
  std::vector<float> state = y;
  uov::moving_average(state.data(), x.data(), rows * channels, 0.5f, 0.5f, true, state.data(),
                      parallel_for);
  results.add(state);
}

void run_views(Maker& make, const ParallelFor& parallel_for, Results& results) {
  const int64_t n = 9000, height = 90, width = 120, channels = 70;
  std::vector<float> points = make.rows<float>(3 * n);
  for (int64_t i = 0; i < n; ++i) points[3 * i + 2] += 2.5f;
  const uov::PinholeView view{
      {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0}, 30, 30, 60, 45, height, width, 2};
  const std::vector<uint16_t> depth(height * width, 2500);
  const uov::DepthImage<uint16_t> image{depth.data(), 1000.0, 0.0, 0.5};
  const uov::SeenPoints seen = uov::seen_points(points.data(), n, view, image, parallel_for);
  const auto found = static_cast<int64_t>(seen.point.size());
  results.add(seen.point);
  const std::vector<uint16_t> ones(channels * height * width, 0x3c00);  // halves
  std::vector<float> sums(n * channels);
  for (const uov::GridSize grid : {uov::GridSize{height, width}, uov::GridSize{9, 12}}) {
    for (const auto cells : {&uov::nearest_cells, &uov::bilinear_cells}) {
      const uov::Taps taps =
          cells(grid, {height, width}, seen.row.data(), seen.column.data(), found);
      const std::vector<uint16_t> planes(ones.begin(),
                                         ones.begin() + channels * grid.height * grid.width);
      uov::add_planes(planes.data(), channels, grid.height * grid.width, taps, seen.point.data(),
                      sums.data(), parallel_for);
    }
  }
  const std::vector<float> table = make.rows<float>(10 * channels);
  const std::vector<int32_t> index = make.indices(found, 0, 10);
  uov::add_rows(table.data(), 10, channels, index.data(), seen.point.data(), found, sums.data(),
                parallel_for);
  const int64_t few = std::min<int64_t>(found, 7);
  uov::add_rows(table.data(), 10, channels, index.data(), seen.point.data(), few, sums.data(),
                parallel_for);
  results.add(sums);
}

Results run_all(uint32_t seed, const ParallelFor& parallel_for) {
  Maker make(seed);
  Results results;
  run_coordinates(make, parallel_for, results);
  run_input(make, results);
  run_views(make, parallel_for, results);
  run_units(make, parallel_for, results);
  // As handlers do.
  const auto held = uov::hold_kernels();
  run_products<float>(make, parallel_for, results);
  run_products<bfloat16>(make, parallel_for, results);
  run_rows<float>(make, parallel_for, results);
  run_rows<bfloat16>(make, parallel_for, results);
  return results;
}

ParallelFor serial() {
  return {1, [](int64_t tasks, const ParallelFor::Task& task) {
            for (int64_t i = 0; i < tasks; ++i) task(i);
          }};
}

// Whether all callers of a loop at once get what one alone gets.
bool same_at_once(const Results& expected, const std::function<ParallelFor()>& loops) {
  std::atomic<bool> same{true};
  std::vector<std::thread> callers;
  for (int64_t i = 0; i < kThreads; ++i) {
    callers.emplace_back([&] {
      if (run_all(1, loops()) != expected) same = false;
    });
  }
  for (std::thread& caller : callers) caller.join();
  return same;
}

int run() {
  Pool pool(kThreads);
  for (const std::string& name : uov::runnable_kernels()) {
    uov::use_kernels(name);
    const Results expected = run_all(1, serial());
    auto handle = pool.handle();
    auto on_pool = [&] { return uov::on_pool(handle, kThreads); };
    const bool same = same_at_once(expected, [] { return uov::on_own_threads(kThreads); }) &&
                      same_at_once(expected, on_pool);
    std::printf("%s kernels: %s\n", name.c_str(), same ? "the same" : "other results");
    if (!same) return 1;
  }
  return 0;
}

}  // namespace

int main(int count, char** words) {
  const std::map<std::string, int (*)()> planted{
      {"read_out_of_bounds", &read_out_of_bounds}, {"overflow", &overflow}, {"race", &race}};
  if (count < 2) return run();
  return planted.at(words[1])() == 0;
}
