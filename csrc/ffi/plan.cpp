// Neighbour maps and whole plans as XLA custom calls, by the code that the host functions use.
#include "core/plan.h"

#include "ffi/arguments.h"
#include "ffi/handlers.h"
#include "ffi/thread_pool.h"

namespace ffi = xla::ffi;

namespace uov {
namespace {

using Coordinates = Matrix32;

ParallelFor for_rows(ffi::ThreadPool& pool, size_t rows) {
  return on_pool(pool, threads_worth(static_cast<int64_t>(rows), threads_of(pool)));
}

// Unlike the valid rows of features, a count that the coordinates do not have is an error.
int64_t counted_rows(Coordinates coords, Count count) {
  const int64_t rows = count.typed_data()[0];
  require(coords.dimensions()[1] == 4, "coords must be int32 [N, 4]");
  require(rows >= 0 && rows <= coords.dimensions()[0], "count must be between 0 and N");
  return rows;
}

void plan(ffi::ThreadPool& pool, Coordinates coords, Count count, ffi::RemainingRets results,
          int64_t levels, bool first_kernel_5) {
  size_t next = 0;
  auto take = [&](int64_t rows, int64_t columns) {
    auto buffer = results.get<Coordinates>(next++);
    require(buffer.has_value() && (*buffer)->dimensions()[0] == rows &&
                (columns < 0 || (*buffer)->dimensions()[1] == columns),
            "plan: a result is missing or not an int32 matrix of the right shape");
    return *buffer;
  };
  require(levels >= 1, "plan: there must be a level");
  PlanArrays arrays;
  auto& sizes = arrays.capacities;
  for (int64_t l = 0; l < levels; ++l) {
    auto same = take(27, -1);
    sizes.push_back(same->dimensions()[1]);
    arrays.same.push_back(same->typed_data());
  }
  if (first_kernel_5) arrays.first = take(125, sizes[0])->typed_data();
  for (int64_t l = 0; l + 1 < levels; ++l) {
    arrays.down.push_back(take(8, sizes[l + 1])->typed_data());
    arrays.down_transpose.push_back(take(8, sizes[l])->typed_data());
    arrays.coords.push_back(take(sizes[l + 1], 4)->typed_data());
  }
  auto counts = results.get<ffi::Buffer<ffi::S32, 1>>(next++);
  require(counts.has_value() && (*counts)->dimensions()[0] == levels,
          "plan: the last result must be int32 [levels]");
  const auto rows = sorted_rows(coords.typed_data(), counted_rows(coords, count), 1);
  const auto true_counts = build_plan(rows, arrays, for_rows(pool, rows.size()));
  std::copy(true_counts.begin(), true_counts.end(), (*counts)->typed_data());
}

ffi::Error submanifold_map_handler(ffi::ThreadPool pool, Coordinates coords, Count count,
                                   ffi::Result<Coordinates> map, int64_t kernel,
                                   int64_t tensor_stride, int64_t dilation) {
  return guarded([&] {
    const auto stride = static_cast<int32_t>(tensor_stride);
    require(map->dimensions()[0] == kernel * kernel * kernel &&
                map->dimensions()[1] == coords.dimensions()[0],
            "submanifold_map: coords [N, 4] need a map [kernel^3, N]");
    const auto rows = sorted_rows(coords.typed_data(), counted_rows(coords, count), stride);
    submanifold_map(rows, static_cast<int>(kernel), stride, static_cast<int32_t>(dilation),
                    map->dimensions()[1], map->typed_data(), for_rows(pool, rows.size()));
  });
}

ffi::Error plan_handler(ffi::ThreadPool pool, Coordinates coords, Count count,
                        ffi::RemainingRets results, int64_t levels, bool first_kernel_5) {
  return guarded([&] { plan(pool, coords, count, results, levels, first_kernel_5); });
}

}  // namespace
}  // namespace uov

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_submanifold_map_cpu, uov::submanifold_map_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<uov::Coordinates>()  // coords [N, 4]
                                  .Arg<uov::Count>()        // count []
                                  .Ret<uov::Coordinates>()  // map [kernel^3, N]
                                  .Attr<int64_t>("kernel")
                                  .Attr<int64_t>("tensor_stride")
                                  .Attr<int64_t>("dilation"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(uov_plan_cpu, uov::plan_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<uov::Coordinates>()  // coords [N, 4]
                                  .Arg<uov::Count>()        // count []
                                  .RemainingRets()  // same per level, first, (down, transpose,
                                                    // coords) per step, counts
                                  .Attr<int64_t>("levels")
                                  .Attr<bool>("first_kernel_5"));
