// Kernels with one error each, and the same without it. All turn each 64 numbers of x around:
// y[64 b + t] = x[64 b + 63 - t]. What the emulation says of each stands in test_planted.py.
#include <cstdint>
#include <cstring>
#include <iterator>
#include <stdexcept>
#include <string>

#include "cuda/device.h"
#include "cuda/launch.h"
#include "device_copy.h"

namespace uov::cuda {
namespace {

constexpr int kThreads = 64, kBlocks = 2, kNumbers = kThreads * kBlocks;

struct Arrays {
  Global<const float> x;   // [kNumbers]
  Global<float> y;         // [kNumbers], not written
  Global<int32_t> counts;  // [4], zeros
};

UOV_DEVICE int64_t place() { return int64_t{blockIdx.x} * kThreads + threadIdx.x; }
UOV_DEVICE int64_t mirrored() {
  return int64_t{blockIdx.x} * kThreads + (kThreads - 1 - threadIdx.x);
}

template <bool kRight>
UOV_KERNEL(kThreads)
wrong_index(Arrays a) {
  a.y[place()] = a.x[kRight ? mirrored() : place() ^ 31];
}

template <bool kRight>
UOV_KERNEL(kThreads)
out_of_bounds_read(Arrays a) {
  a.y[place()] = a.x[kRight ? mirrored() : mirrored() + 1];
}

template <bool kRight>
UOV_KERNEL(kThreads)
out_of_bounds_write(Arrays a) {
  a.y[kRight ? mirrored() : mirrored() - 1] = a.x[place()];
}

template <bool kRight>
UOV_KERNEL(kThreads)
out_of_bounds_shared(Arrays a) {
  UOV_SHARED(float, s, kThreads);
  const int t = threadIdx.x;
  s[kRight ? t : t + 1] = a.x[place()];
  __syncthreads();
  a.y[place()] = s[kThreads - 1 - t];
}

template <bool kRight>
UOV_KERNEL(kThreads)
misaligned_global(Arrays a) {
  const int t = threadIdx.x;
  if (t >= kThreads / 4) return;
  const int64_t first = blockIdx.x * kThreads;
  const int shift = kRight || t == kThreads / 4 - 1 ? 0 : -1;
  Vector<float, 4> v = load<4>(a.x, first + kThreads - 4 - 4 * t + shift), turned;
  for (int i = 0; i < 4; ++i) turned.value[i] = v.value[3 - i];
  store<4>(a.y, first + 4 * t, turned);
}

template <bool kRight>
UOV_KERNEL(kThreads)
misaligned_shared(Arrays a) {
  UOV_SHARED(float, s, 2 * kThreads);
  const int t = threadIdx.x;
  store<2>(s, 2 * t - (kRight || t == 0 ? 0 : 1), Vector<float, 2>{{a.x[place()], 0.0f}});
  __syncthreads();
  a.y[place()] = s[2 * (kThreads - 1 - t)];
}

template <bool kRight>
UOV_KERNEL(kThreads)
uninitialised_shared(Arrays a) {
  UOV_SHARED(float, s, kThreads);
  const int t = threadIdx.x;
  if (kRight || t != 5) s[t] = a.x[place()];
  __syncthreads();
  a.y[place()] = s[kThreads - 1 - t];
}

template <bool kRight>
UOV_KERNEL(kThreads)
uninitialised_result(Arrays a) {
  if (kRight) {
    a.y[place()] = a.x[mirrored()];
  } else {
    a.y[place()] += a.x[mirrored()];
  }
}

template <bool kRight>
UOV_KERNEL(kThreads)
missing_barrier(Arrays a) {
  UOV_SHARED(float, s, kThreads);
  const int t = threadIdx.x;
  s[t] = a.x[place()];
  if (kRight) __syncthreads();
  a.y[place()] = s[kThreads - 1 - t];
}

template <bool kRight>
UOV_KERNEL(kThreads)
missing_barrier_before_reuse(Arrays a) {
  UOV_SHARED(float, s, kThreads);
  const int t = threadIdx.x;
  s[t] = a.x[place()];
  __syncthreads();
  const float turned = s[kThreads - 1 - t];
  if (kRight) __syncthreads();
  s[t] = turned;
  __syncthreads();
  a.y[mirrored()] = s[kThreads - 1 - t];
}

template <bool kRight>
UOV_KERNEL(kThreads)
missing_warp_barrier(Arrays a) {
  UOV_SHARED(float, s, kThreads);
  const int t = threadIdx.x;
  s[t ^ 1] = a.x[mirrored()];
  if (kRight) __syncwarp();
  const float next = s[t];
  a.y[place() ^ 1] = next;
}

// Of one word, each thread writes a half: two threads the same, or each its own.
template <bool kRight>
UOV_KERNEL(kThreads)
race_within_a_word(Arrays a) {
  UOV_SHARED(bfloat16, s, kThreads);
  const int t = threadIdx.x;
  s[kRight || t != 7 ? t : 6] = bfloat16{static_cast<uint16_t>(t)};
  __syncthreads();
  const bfloat16 turned = s[kThreads - 1 - t];
  a.y[place()] = a.x[blockIdx.x * kThreads + turned.bits];
}

template <bool kRight>
UOV_KERNEL(kThreads)
missing_wait(Arrays a) {
  UOV_SHARED(float, s, kThreads);
  const int t = threadIdx.x;
  copy_async<4>(s + t, a.x + place(), true);
  commit_copies();
  if (kRight) wait_for_copies<0>();
  __syncthreads();
  a.y[place()] = s[kThreads - 1 - t];
}

template <bool kRight>
UOV_KERNEL(kThreads)
wait_for_another_group(Arrays a) {
  UOV_SHARED(float, s, 2 * kThreads);
  const int t = threadIdx.x;
  copy_async<4>(s + kThreads + t, a.x + mirrored(), true);
  commit_copies();
  copy_async<4>(s + t, a.x + place(), true);
  commit_copies();
  wait_for_copies<kRight ? 0 : 1>();
  __syncthreads();
  a.y[place()] = s[kThreads - 1 - t];
}

template <bool kRight>
UOV_KERNEL(kThreads)
missing_commit(Arrays a) {
  UOV_SHARED(float, s, kThreads);
  const int t = threadIdx.x;
  copy_async<4>(s + t, a.x + place(), true);
  if (kRight) commit_copies();
  wait_for_copies<0>();
  __syncthreads();
  a.y[place()] = s[kThreads - 1 - t];
}

template <bool kRight>
UOV_KERNEL(kThreads)
missing_barrier_after_wait(Arrays a) {
  UOV_SHARED(float, s, kThreads);
  const int t = threadIdx.x;
  copy_async<4>(s + t, a.x + place(), true);
  commit_copies();
  wait_for_copies<0>();
  if (kRight) __syncthreads();
  a.y[place()] = s[kThreads - 1 - t];
}

template <bool kRight>
UOV_KERNEL(kThreads)
write_under_a_copy(Arrays a) {
  UOV_SHARED(float, s, kThreads);
  const int t = threadIdx.x;
  copy_async<4>(s + t, a.x + mirrored(), true);
  commit_copies();
  if (kRight) wait_for_copies<0>();
  s[t] = a.x[mirrored()];
  a.y[place()] = s[t];
}

template <bool kRight>
UOV_KERNEL(kThreads)
divergent_barrier(Arrays a) {
  a.y[place()] = a.x[mirrored()];
  if (kRight || threadIdx.x < kThreads / 2) __syncthreads();
}

template <bool kRight>
UOV_KERNEL(kThreads)
two_barriers(Arrays a) {
  a.y[place()] = a.x[mirrored()];
  if (kRight || threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

template <bool kRight>
UOV_KERNEL(kThreads)
barrier_beside_a_shuffle(Arrays a) {
  float v = a.x[mirrored()];
  if (kRight || threadIdx.x != 3) v = __shfl_sync(~0u, v, threadIdx.x);
  __syncthreads();
  a.y[place()] = v;
}

template <bool kRight>
UOV_KERNEL(kThreads)
shuffle_of_an_absent_lane(Arrays a) {
  const int t = threadIdx.x;
  if (!kRight && t == 40) return;
  const float v = a.x[mirrored()];
  a.y[place() ^ 1] = __shfl_xor_sync(~0u, v, 1);
}

template <bool kRight>
UOV_KERNEL(kThreads)
shuffle_from_outside_its_mask(Arrays a) {
  float v = a.x[mirrored()];
  const unsigned mask = threadIdx.x % 32 < 16 ? 0xffffu : 0xffff0000u;
  v = __shfl_xor_sync(mask, v, kRight ? 8 : 16);
  a.y[place() ^ (kRight ? 8 : 16)] = v;
}

template <bool kRight>
UOV_KERNEL(kThreads)
vote_with_other_masks(Arrays a) {
  const unsigned mask = kRight || threadIdx.x % 32 < 20 ? ~0u : 0xfff00000u;
  const bool any = __any_sync(mask, 1) != 0;
  if (any) a.y[place()] = a.x[mirrored()];
}

template <bool kRight>
UOV_KERNEL(kThreads)
part_of_a_warp_multiplies(Arrays a) {
  float sums[4] = {};
  const uint32_t left[4] = {}, right[2] = {};
  if (kRight || threadIdx.x < 48) multiply_tf32(sums, left, right);
  a.y[place()] = a.x[mirrored()] + sums[0];
}

// Lanes say where lines are for others, which read them.
template <bool kRight>
UOV_KERNEL(kThreads)
missing_barrier_before_fragments(Arrays a) {
  UOV_SHARED(float, s, kThreads / 32 * 128);
  const int t = threadIdx.x, lane = t % 32, first = t / 32 * 128;
  for (int i = 0; i < 4; ++i) s[first + 4 * lane + i] = 4.0f * lane + i;
  if (kRight) __syncwarp();
  float r[4];
  load_matrices(r, s + first + 4 * lane);
  // Lane l has numbers l, 32 + l, ...
  a.y[place()] = a.x[mirrored() + (r[1] == 32 + lane ? 0 : 1)];
}

template <bool kRight>
UOV_KERNEL(kThreads)
racing_blocks(Arrays a) {
  a.y[place()] = a.x[mirrored()];
  if (threadIdx.x != 0) return;
  if (kRight) {
    atomic_add(a.counts, 0, 1);
  } else {
    a.counts[0] += 1;
  }
}

template <bool kRight>
UOV_KERNEL(kThreads)
race_within_a_block(Arrays a) {
  a.y[place()] = a.x[mirrored()];
  if (kRight) __syncthreads();
  if (threadIdx.x != 0) return;
  const float last = a.y[int64_t{blockIdx.x} * kThreads + kThreads - 1];
  a.counts[blockIdx.x] = last > 0.0f;
}

template <bool kRight>
UOV_KERNEL(kThreads)
read_of_another_block(Arrays a) {
  a.y[place()] = a.x[mirrored()];
  if (threadIdx.x != 0) return;
  const int64_t first = kRight ? int64_t{blockIdx.x} * kThreads : 0;
  const float v = a.y[first];
  a.counts[blockIdx.x] = v > 0.0f;
}

template <bool kRight>
UOV_KERNEL(kThreads)
plain_read_of_an_atomic(Arrays a) {
  a.y[place()] = a.x[mirrored()];
  atomic_add(a.counts, 0, 1);
  int32_t seen = 0;
  if (kRight) {
    seen = atomic_read(a.counts, 0);
  } else {
    seen = a.counts[0];
  }
  if (seen == 0) a.y[place()] = 0.0f;
}

// Blocks take places in the order in which they come.
template <bool kRight>
UOV_KERNEL(kThreads)
order_of_blocks(Arrays a) {
  UOV_SHARED(int32_t, taken, 1);
  if (threadIdx.x == 0) taken[0] = kRight ? blockIdx.x : atomic_add(a.counts, 0, 1);
  __syncthreads();
  const int32_t block = taken[0];
  a.y[int64_t{block} * kThreads + threadIdx.x] = a.x[mirrored()];
}

// The last of the threads that come leaves its number.
template <bool kRight>
UOV_KERNEL(kThreads)
order_of_threads(Arrays a) {
  a.y[place()] = a.x[mirrored()];
  if (kRight) {
    atomic_or(a.counts, 0, 1 << threadIdx.x % 4);
  } else {
    atomic_exchange(a.counts, 0, static_cast<int32_t>(threadIdx.x));
  }
}

#ifdef UOV_EMULATED
UOV_KERNEL(1024) ask() {
  UOV_SHARED(float, s, 8 * 1024);
  UOV_SHARED(float, more, 4 * 1024);
  s[threadIdx.x] = 0.0f;
  more[threadIdx.x] = 0.0f;
}
#endif

struct Case {
  const char* name;
  void (*kernels[2])(Arrays);
};
#define UOV_CASE(name) {#name, {&name<false>, &name<true>}},
const Case kCases[] = {
    UOV_CASE(wrong_index)                       //
    UOV_CASE(out_of_bounds_read)                //
    UOV_CASE(out_of_bounds_write)               //
    UOV_CASE(out_of_bounds_shared)              //
    UOV_CASE(misaligned_global)                 //
    UOV_CASE(misaligned_shared)                 //
    UOV_CASE(uninitialised_shared)              //
    UOV_CASE(uninitialised_result)              //
    UOV_CASE(missing_barrier)                   //
    UOV_CASE(missing_barrier_before_reuse)      //
    UOV_CASE(missing_warp_barrier)              //
    UOV_CASE(race_within_a_word)                //
    UOV_CASE(missing_wait)                      //
    UOV_CASE(wait_for_another_group)            //
    UOV_CASE(missing_commit)                    //
    UOV_CASE(missing_barrier_after_wait)        //
    UOV_CASE(write_under_a_copy)                //
    UOV_CASE(divergent_barrier)                 //
    UOV_CASE(two_barriers)                      //
    UOV_CASE(barrier_beside_a_shuffle)          //
    UOV_CASE(shuffle_of_an_absent_lane)         //
    UOV_CASE(shuffle_from_outside_its_mask)     //
    UOV_CASE(vote_with_other_masks)             //
    UOV_CASE(part_of_a_warp_multiplies)         //
    UOV_CASE(missing_barrier_before_fragments)  //
    UOV_CASE(racing_blocks)                     //
    UOV_CASE(race_within_a_block)               //
    UOV_CASE(read_of_another_block)             //
    UOV_CASE(plain_read_of_an_atomic)           //
    UOV_CASE(order_of_blocks)                   //
    UOV_CASE(order_of_threads)                  //
};

}  // namespace
}  // namespace uov::cuda

#define UOV_EXPORT extern "C" __attribute__((visibility("default")))

// Name of case i, or null.
UOV_EXPORT const char* planted_name(int i) {
  using uov::cuda::kCases;
  return i < static_cast<int>(std::size(kCases)) ? kCases[i].name : nullptr;
}

// Runs case i, with its error or without, on x [128], y [128] and counts [4]. Null, or what was
// found.
UOV_EXPORT const char* run_planted(int i, int right, const float* x, float* y, int32_t* counts) {
  using namespace uov::cuda;
  return error_of([&] {
    const Case& planted = kCases[i];
    DeviceCopy<const float> from(x, kNumbers);
    DeviceCopy<float> to(y, kNumbers);
    DeviceCopy<int32_t> numbers(counts, 4);
#ifdef UOV_EMULATED
    emulated::mark_unwritten(y, to.bytes());
#endif
    launch(Stream{}, planted.name, planted.kernels[right != 0 ? 1 : 0], dim3(kBlocks), kThreads, 0,
           Arrays{from.get(), to.get(), numbers.get()});
    to.copy_back();
    numbers.copy_back();
  });
}

#ifdef UOV_EMULATED
UOV_EXPORT void use_order(uint64_t seed) { uov::cuda::emulated::use_order(seed); }

// A kernel is told of so many numbers of 128, or so many bytes of them are filled.
UOV_EXPORT const char* claim(int64_t numbers, float* y) {
  using namespace uov::cuda;
  return error_of([&] {
    DeviceCopy<float> to(y, kNumbers);
    global(y, numbers);
  });
}
UOV_EXPORT const char* fill(int64_t bytes, float* y) {
  using namespace uov::cuda;
  return error_of([&] {
    DeviceCopy<float> to(y, kNumbers);
    fill_bytes(Stream{}, y, 0, bytes);
  });
}

// Whether it is still known that nothing wrote y when so much other memory is watched: what is
// found, if anything.
UOV_EXPORT const char* read_after_watching(int64_t mebibytes, float* y) {
  using namespace uov::cuda;
  return error_of([&] {
    DeviceCopy<float> to(y, kNumbers);
    emulated::mark_unwritten(y, to.bytes());
    // No memory: what is watched is not touched.
    auto* const beyond = reinterpret_cast<unsigned char*>(uintptr_t{1} << 60);
    const auto each = size_t{1} << 20;
    for (int64_t i = 0; i < mebibytes; ++i) {
      emulated::mark_unwritten(beyond + i * each, each);
      emulated::mark_outside(beyond + i * each, each);
    }
    emulated::require_written(y, to.bytes(), "y");
  });
}

// A launch that does nothing with what it asks for.
UOV_EXPORT const char* ask_for(int blocks, int threads, int64_t shared_bytes) {
  using namespace uov::cuda;
  return error_of([&] {
    launch(Stream{}, "ask", &ask, dim3(1, static_cast<unsigned>(blocks)), threads, shared_bytes);
  });
}
#endif
