// Neighbour maps and whole plans as XLA custom calls, by the code that the host functions use.
#include "core/plan.h"

#include "ffi/checks.h"
#include "ffi/cpu.h"
#include "ffi/handlers.h"

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
  require(rows >= 0 && rows <= coords.dimensions()[0], "count must be between 0 and N");
  return rows;
}

void plan(ffi::ThreadPool& pool, Coordinates coords, Count count, ffi::RemainingRets results,
          int64_t levels, bool first_kernel_5) {
  const PlanResults plan = checked_plan(coords, results, levels, first_kernel_5);
  const auto rows = sorted_rows(coords.typed_data(), counted_rows(coords, count), 1);
  const auto true_counts = build_plan(rows, plan.arrays, for_rows(pool, rows.size()));
  std::copy(true_counts.begin(), true_counts.end(), plan.counts);
}

ffi::Error submanifold_map_handler(ffi::ThreadPool pool, Coordinates coords, Count count,
                                   ffi::Result<Coordinates> map, int64_t kernel,
                                   int64_t tensor_stride, int64_t dilation) {
  return guarded_on_cpu([&] {
    const SubmanifoldMap of =
        checked_submanifold_map(coords, *map, kernel, tensor_stride, dilation);
    const auto rows =
        sorted_rows(coords.typed_data(), counted_rows(coords, count), of.tensor_stride);
    submanifold_map(rows, of.kernel, of.tensor_stride, of.dilation, of.rows, map->typed_data(),
                    for_rows(pool, rows.size()));
  });
}

ffi::Error plan_handler(ffi::ThreadPool pool, Coordinates coords, Count count,
                        ffi::RemainingRets results, int64_t levels, bool first_kernel_5) {
  return guarded_on_cpu([&] { plan(pool, coords, count, results, levels, first_kernel_5); });
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
