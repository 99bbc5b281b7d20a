// Levels and neighbour maps of a sparse UNet on a GPU: what core/plan.h builds, bit for bit.
//
// Nothing can be thrown from a GPU: of coordinates that core/plan.h refuses nothing is connected,
// and the fault (fault.h) names the row.
#pragma once

#include <cstdint>
#include <vector>

#include "core/plan_arrays.h"
#include "cuda/launch.h"

namespace uov::cuda {

// Throws std::invalid_argument where there can be no such plan.
int64_t plan_workspace(const std::vector<int64_t>& capacities);

// Fills `arrays` and `counts`, the true number of voxels of each level. `coords` are int32
// [capacity of level 0, 4], the first `count[0]` of them valid. Where a level has more voxels than
// rows, and of bad coordinates, nothing is connected: all arrays are -1, and the caller must refuse
// the plan. The counts of bad coordinates are all INT32_MAX, which fits no capacity.
void build_plan(Stream stream, const int32_t* coords, const int32_t* count,
                const PlanArrays& arrays, int32_t* counts, void* workspace, int32_t* fault);

int64_t submanifold_map_workspace(int64_t n);

// Submanifold map [kernel^3, n] of `count[0]` coordinates [n, 4], all multiples of `tensor_stride`.
// It is -1 throughout of bad ones. Throws as core/plan.h's of a kernel, stride or dilation.
void submanifold_map(Stream stream, const int32_t* coords, const int32_t* count, int64_t n,
                     int kernel, int32_t tensor_stride, int32_t dilation, int32_t* map,
                     void* workspace, int32_t* fault);

}  // namespace uov::cuda
