// What the columns of a sweep may hold.
#pragma once

#include <cstdint>
#include <vector>

namespace uov {

// The numbers that a column may hold, both ends among them.
struct ColumnRange {
  float low, high;
  bool whole;     // whole numbers alone
  bool position;  // a coordinate of the point
};

// Whether all numbers [n, columns] are finite and in the ranges of their columns, and one position
// at least is farther than `nearest` from 0.
bool sweep_is_plausible(const float* table, int64_t n, const std::vector<ColumnRange>& columns,
                        float nearest);

}  // namespace uov
