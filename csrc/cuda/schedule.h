// What products over a neighbour map want to know of it once: rows in an order in which those next
// to each other have like neighbours, and every offset's pairs.
#pragma once

#include <cstdint>

#include "cuda/launch.h"

namespace uov::cuda {

// Empty: rows in their own order, every offset tried.
struct RowOrder {
  const int32_t* rows = nullptr;   // [N], a permutation
  const int32_t* masks = nullptr;  // [ceil(N / 32), ceil(K / 32)]
};
// Empty: every row of every offset, those without a neighbour as zeros.
struct PairRows {
  const int32_t* rows = nullptr;    // [K, N]
  const int32_t* counts = nullptr;  // [K]
};

// Of a map [kernel, rows]:
//   order: a permutation of the rows. Within stretches of 65,536 rows, so that rows near each other
//     in memory are read at about one time, those with the same neighbours follow each other, in
//     ascending order.
//   masks: of each 32 rows in that order, which offsets some row has: offset k is bit k % 32 of
//     word k / 32.
//   pair_rows: of each offset the rows that have it, ascending, -1 behind; pair_counts: how many.
// Entries below -1 are reported to `fault` (as of an input of `rows` rows, which is not known here)
// and are as good as absent; those that are too large are for the products to see.
void schedule(Stream stream, const int32_t* map, int64_t kernel, int64_t rows, int32_t* order,
              int32_t* masks, int32_t* pair_rows, int32_t* pair_counts, void* workspace,
              int32_t* fault);

int64_t schedule_workspace(int64_t kernel, int64_t rows);

}  // namespace uov::cuda
