#include "cuda/emulation/grid.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "cuda/emulation/block.h"
#include "cuda/emulation/copies.h"
#include "cuda/emulation/device.h"
#include "cuda/emulation/failure.h"
#include "cuda/emulation/threads.h"
#include "cuda/launch.h"

namespace uov::cuda::emulated {
namespace {

// Also what all of it may be where the launch does not ask for more.
constexpr int64_t kMostStaticShared = 48 * 1024;

struct SharedArray {
  const void* key;
  int64_t offset;
};

uint64_t first_order() {
  const char* asked = std::getenv("UOV_EMULATED_ORDER");
  return asked == nullptr ? std::random_device{}() : std::strtoull(asked, nullptr, 10);
}

// All memory of the emulation belongs to whoever holds it.
std::mutex grids;
uint64_t order_seed = first_order();
uint64_t launches = 0;
const Grid* grid = nullptr;
std::vector<SharedArray> shared_arrays;  // of the block
int64_t shared_end = 0;

int64_t padded(int64_t bytes) { return (bytes + 15) / 16 * 16; }

void check_limits() {
  const auto refuse = [](const std::string& what) {
    throw KernelError("launch of " + std::string(grid->name) + ": " + what);
  };
  if (grid->threads < 1 || grid->threads > kMostThreads) {
    refuse(std::to_string(grid->threads) + " threads a block; 1 to 1024 are possible");
  }
  if (grid->x > 0x7fffffffu || grid->y > 0xffffu || grid->z > 0xffffu) {
    refuse("more blocks than a grid can have");
  }
  if (grid->shared_bytes < 0 || grid->shared_bytes > kSharedBytes) {
    refuse(std::to_string(grid->shared_bytes) + " bytes of shared memory; all devices have " +
           std::to_string(kSharedBytes));
  }
}

}  // namespace

std::string hexadecimal(unsigned value) {
  std::string text = "0x00000000";
  for (size_t i = 9; i > 1; --i, value >>= 4) text[i] = "0123456789abcdef"[value & 15];
  return text;
}

void fail(const std::string& what) {
  const auto number = [](unsigned n) { return std::to_string(n); };
  throw KernelError("kernel " + std::string(grid->name) + ", block (" + number(blockIdx.x) + ", " +
                    number(blockIdx.y) + ", " + number(blockIdx.z) + "), thread " +
                    number(threadIdx.x) + ": " + what + " (order " + std::to_string(order_seed) +
                    ", launch " + std::to_string(launches) + ")");
}

void run(const Grid& what) {
  const std::lock_guard<std::mutex> lock(grids);
  grid = &what;
  ++launches;
  check_limits();
  end_copies();  // of a grid that failed
  random_order.seed(static_cast<unsigned>(order_seed * 7919 + launches));
  random_order.discard(2);
  const int64_t blocks = int64_t{what.x} * what.y * what.z;
  begin_launch_stamps(blocks);
  std::vector<int64_t> block_order(blocks);
  for (int64_t b = 0; b < blocks; ++b) block_order[b] = b;
  std::shuffle(block_order.begin(), block_order.end(), random_order);
  std::vector<int> warp_order((what.threads + kLanes - 1) / kLanes);
  for (size_t w = 0; w < warp_order.size(); ++w) warp_order[w] = static_cast<int>(w);
  gridDim = dim3(what.x, what.y, what.z);
  blockDim = dim3(what.threads);
  threadIdx = {};
  for (int64_t b : block_order) {
    blockIdx.x = static_cast<unsigned>(b % what.x);
    blockIdx.y = static_cast<unsigned>(b / what.x % what.y);
    blockIdx.z = static_cast<unsigned>(b / what.x / what.y);
    shared_arrays.clear();
    shared_end = padded(what.shared_bytes);
    run_block(what.threads, what.kernel, what.arguments, warp_order);
  }
}

void use_order(uint64_t seed) {
  const std::lock_guard<std::mutex> lock(grids);
  order_seed = seed;
  launches = 0;
}

void* static_shared(const void* key, int64_t bytes) {
  for (const SharedArray& array : shared_arrays) {
    if (array.key == key) return shared_memory + array.offset;
  }
  const int64_t offset = shared_end, of_launch = padded(grid->shared_bytes);
  shared_end += padded(bytes);
  if (shared_end - of_launch > kMostStaticShared || shared_end > kSharedBytes) {
    fail(std::to_string(shared_end - of_launch) + " bytes of shared memory beside the launch's " +
         std::to_string(of_launch) + "; there may be " + std::to_string(kMostStaticShared) +
         ", together " + std::to_string(kSharedBytes));
  }
  if (grid->shared_bytes <= kSharedUnasked && shared_end > kMostStaticShared) {
    fail(std::to_string(shared_end) + " bytes of shared memory, of which the launch has " +
         std::to_string(of_launch) + " and asks for none: there may be " +
         std::to_string(kMostStaticShared));
  }
  shared_arrays.push_back({key, offset});
  return shared_memory + offset;
}

void* dynamic_shared(int64_t* bytes) {
  *bytes = grid->shared_bytes;
  return shared_memory;
}

void mark_outside(const void* data, size_t bytes) {
  const std::lock_guard<std::mutex> lock(grids);
  mark(data, bytes, kOutside);
}

void mark_unwritten(void* data, size_t bytes) {
  const std::lock_guard<std::mutex> lock(grids);
  mark(data, bytes, kUnwritten);
}

void mark_copied(void* to, const void* from, size_t bytes) {
  const std::lock_guard<std::mutex> lock(grids);
  mark(to, bytes, first_unwritten(from, bytes) < 0 ? kOutside : kUnwritten);
}

void require_written(const void* data, size_t bytes, const char* what) {
  const std::lock_guard<std::mutex> lock(grids);
  const int64_t place = first_unwritten(data, bytes);
  if (place >= 0) {
    throw KernelError(std::string(what) + ": nothing wrote byte " + std::to_string(place) + " of " +
                      std::to_string(bytes));
  }
}

}  // namespace uov::cuda::emulated
