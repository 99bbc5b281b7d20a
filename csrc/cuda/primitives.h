// Sums and sorts over whole arrays: CUB's on a GPU, the standard library's in the emulation.
#pragma once

#include <cstdint>

#include "cuda/launch.h"

namespace uov::cuda {

// Bytes of workspace for n items. Bounds that are known without a device: CUB's own numbers depend
// on the GPU, and it refuses to run with less than it needs.
int64_t exclusive_sum_workspace(int64_t n);
template <typename Key>
int64_t sort_pairs_workspace(int64_t n);

// sums[i] = values[0] + ... + values[i - 1].
void exclusive_sum(Stream stream, const int32_t* values, int32_t* sums, int64_t n, void* workspace);

// Pairs of a key, uint32_t or uint64_t, and a value in ascending order of the keys' lowest `bits`
// bits, equal ones in the order given. Every 8 bits cost a pass over memory and two launches.
template <typename Key>
void sort_pairs(Stream stream, const Key* keys, Key* sorted_keys, const int32_t* values,
                int32_t* sorted_values, int64_t n, int bits, void* workspace);

}  // namespace uov::cuda
