// Plans, neighbour maps and voxels as XLA custom calls on CUDA.
#include <cstdint>
#include <vector>

#include "cuda/fault_memory.h"
#include "cuda/handlers.h"
#include "cuda/plan.h"
#include "cuda/voxelize.h"
#include "ffi/checks.h"

namespace ffi = xla::ffi;

namespace uov::cuda {
namespace {

void plan_on(Stream stream, Matrix32 coords, Count count, ffi::RemainingRets results,
             int64_t levels, bool first_kernel_5) {
  const PlanResults plan = checked_plan(coords, results, levels, first_kernel_5);
  require(coords.dimensions()[0] == plan.arrays.capacities[0],
          "plan: there must be as many coordinates as rows of level 0");
  auto workspace = results.get<Workspace>(plan.taken);
  require(workspace.has_value(), "plan: the workspace is missing");
  require_workspace("plan", **workspace, plan_workspace(plan.arrays.capacities));
  build_plan(stream, coords.typed_data(), count.typed_data(), plan.arrays, plan.counts,
             (*workspace)->typed_data(), fault_numbers());
}

void submanifold_map_on(Stream stream, Matrix32 coords, Count count, ffi::Result<Matrix32> map,
                        ffi::Result<Workspace> workspace, int64_t kernel, int64_t tensor_stride,
                        int64_t dilation) {
  const SubmanifoldMap of = checked_submanifold_map(coords, *map, kernel, tensor_stride, dilation);
  require_workspace("submanifold_map", *workspace, submanifold_map_workspace(of.rows));
  submanifold_map(stream, coords.typed_data(), count.typed_data(), of.rows, of.kernel,
                  of.tensor_stride, of.dilation, map->typed_data(), workspace->typed_data(),
                  fault_numbers());
}

void voxelize_on(Stream stream, Rows32 points, Count count, ffi::Result<Matrix32> coords,
                 ffi::Result<Index> first, ffi::Result<Index> inverse, ffi::Result<Count> voxels,
                 ffi::Result<Workspace> workspace, float size_x, float size_y, float size_z,
                 bool cylindrical) {
  const int64_t n = checked_voxelize(points, *coords, *first, *inverse, {size_x, size_y, size_z});
  require_workspace("voxelize", *workspace, voxelize_workspace(n));
  voxelize(stream, points.typed_data(), count.typed_data(), n,
           {{size_x, size_y, size_z}, cylindrical},
           {coords->typed_data(), first->typed_data(), inverse->typed_data(), voxels->typed_data()},
           workspace->typed_data(), fault_numbers());
}

}  // namespace
}  // namespace uov::cuda

UOV_CUDA_HANDLER(plan, uov::cuda::plan_on,
                 .Arg<uov::Matrix32>()   // coords [N, 4]
                     .Arg<uov::Count>()  // count []
                     .RemainingRets()    // same per level, first, (down, transpose, coords) per
                                         // step, counts, workspace
                     .Attr<int64_t>("levels")
                     .Attr<bool>("first_kernel_5"));

// [levels, first_kernel_5, rows of level 0, of level 1, ...]
UOV_CUDA_WORKSPACE(plan, sizes) {
  uov::require(sizes.size() >= 2 && static_cast<int64_t>(sizes.size()) - 2 == sizes[0],
               "the sizes of a plan are [levels, first_kernel_5, rows of each level]");
  return uov::cuda::plan_workspace({sizes.begin() + 2, sizes.end()});
}

UOV_CUDA_HANDLER(submanifold_map, uov::cuda::submanifold_map_on,
                 .Arg<uov::Matrix32>()      // coords [N, 4]
                     .Arg<uov::Count>()     // count []
                     .Ret<uov::Matrix32>()  // map [kernel^3, N]
                     .Ret<uov::Workspace>()
                     .Attr<int64_t>("kernel")
                     .Attr<int64_t>("tensor_stride")
                     .Attr<int64_t>("dilation"));

// [N, kernel]
UOV_CUDA_WORKSPACE(submanifold_map, sizes) {
  return uov::cuda::submanifold_map_workspace(sizes.at(0));
}

UOV_CUDA_HANDLER(voxelize, uov::cuda::voxelize_on,
                 .Arg<uov::Rows32>()        // points [N, 3]
                     .Arg<uov::Count>()     // count []
                     .Ret<uov::Matrix32>()  // coords [N, 4]
                     .Ret<uov::Index>()     // first [N]
                     .Ret<uov::Index>()     // inverse [N]
                     .Ret<uov::Count>()     // voxels []
                     .Ret<uov::Workspace>()
                     .Attr<float>("size_x")
                     .Attr<float>("size_y")
                     .Attr<float>("size_z")
                     .Attr<bool>("cylindrical"));

// [N]
UOV_CUDA_WORKSPACE(voxelize, sizes) { return uov::cuda::voxelize_workspace(sizes.at(0)); }
