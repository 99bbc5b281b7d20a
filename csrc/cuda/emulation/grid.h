// Launches: a grid of blocks, their order and their shared memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace uov::cuda::emulated {

struct Grid {
  const char* name;
  unsigned x, y, z;
  int threads;
  int64_t shared_bytes;
  void (*kernel)(void* arguments);  // of one thread
  void* arguments;
};
// Runs all blocks, one after the other in a random order. One grid at a time, whichever threads
// ask. Throws what a thread threw.
void run(const Grid& grid);

// From now on, launch by launch, the orders of blocks, warps and lanes that belong to this number.
// Before: to the environment's UOV_EMULATED_ORDER, or one that differs from process to process.
void use_order(uint64_t seed);

// The array of the block that this key names, of so many bytes, the same for all of its threads.
void* static_shared(const void* key, int64_t bytes);
// What the launch asked for.
void* dynamic_shared(int64_t* bytes);

// [data, data + bytes) was written by what is no kernel.
void mark_outside(const void* data, size_t bytes);
// It is memory that nothing wrote yet: kernels must not read it before one has written it.
void mark_unwritten(void* data, size_t bytes);
// What is no kernel is going to read it: throws if nothing wrote some of it.
void require_written(const void* data, size_t bytes, const char* what);
// It copies one number from there to here, and with it that nothing wrote it.
void mark_copied(void* to, const void* from, size_t bytes);

}  // namespace uov::cuda::emulated
