// Levels and neighbour maps of a sparse UNet, from coordinates alone.
//
// Everything here works on keys in sorted order. A neighbour's key is the own key plus a constant,
// so all neighbours in one (dx, dy) column are found by one walk of two pointers over the sorted
// keys: no hashing, no random access, and the mirrored half of a map comes with the first half.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "core/plan_arrays.h"

namespace uov {

struct KeyedRow {
  int64_t key;
  int32_t row;
};

// Coordinates `[n, 4]` (batch, x, y, z) as sorted keys with the rows they came from. Throws
// std::invalid_argument naming the row of an illegal coordinate (coordinates.h), of one that is no
// multiple of `tensor_stride`, or both rows of a duplicate; and for a stride other than 1, 2,
// ... 16.
std::vector<KeyedRow> sorted_rows(const int32_t* coords, int64_t n, int32_t tensor_stride);

// Coordinates `[n, 4]` of one cloud `[n, 3]` in a batch.
std::vector<int32_t> with_batch(const int32_t* xyz, int64_t n, int32_t batch);

// Submanifold map `[kernel^3, row_capacity]` of rows sorted at the same tensor stride: entry (k, u)
// is the row at u + offset_k, or -1. x is the fastest axis of k. Rows past the valid ones are
// filled with -1.
void submanifold_map(const std::vector<KeyedRow>& rows, int kernel, int32_t tensor_stride,
                     int32_t dilation, int64_t row_capacity, int32_t* map,
                     const ParallelFor& parallel_for);

// The next coarser level: unique floor(c / 2s) * 2s in sorted order. `parent[i]` is the coarse row
// of fine row i; `slot[i]` its kernel index in the 2x2x2 cell.
struct Coarsening {
  std::vector<KeyedRow> rows;   // of the coarse level, row == position
  std::vector<int32_t> parent;  // by fine row
  std::vector<int8_t> slot;     // by fine row
};
Coarsening coarsen(const std::vector<KeyedRow>& fine, int32_t tensor_stride);

// Strided map `[8, coarse_capacity]` (fine row per slot, or -1) and its transpose
// `[8, fine_capacity]` (coarse row in the slot a fine row occupies, -1 elsewhere).
void strided_maps(const Coarsening& coarsening, int64_t fine_capacity, int64_t coarse_capacity,
                  int32_t* forward, int32_t* transpose);

// Fills `arrays` and returns the true count of each level. Where a count exceeds its capacity all
// arrays are -1 throughout (nothing is connected) and the caller must refuse the plan.
std::vector<int32_t> build_plan(const std::vector<KeyedRow>& level0, const PlanArrays& arrays,
                                const ParallelFor& parallel_for);

}  // namespace uov
