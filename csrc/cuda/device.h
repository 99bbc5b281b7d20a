// The language of the kernels: CUDA's own words, and a few of ours for what an emulation must see.
//
// Kernels are `.cu` files that nvcc compiles for GPUs and, with UOV_EMULATED, a C++17 compiler for
// the CPU (emulation/device.h, which defines all that is here): that finds accesses out of bounds,
// races and reads of what nothing wrote. It sees memory through two types: what lies in a device's
// memory is a Global<T>, what a block shares is a Shared<T>. A kernel touches neither by a bare
// pointer. Of CUDA's words it may use threadIdx, blockIdx, blockDim, gridDim (all one-dimensional
// or two-), __syncthreads, __syncwarp, __shfl_*_sync, __ballot_sync, __any_sync, __popc, __ffs,
// __clz, and of its arithmetic floorf and, where nothing may be contracted, __fmul_rn, __fadd_rn,
// __fdiv_rn, __fsqrt_rn.
#pragma once

#ifdef UOV_EMULATED
#include "cuda/emulation/device.h"
#else

#include <cuda_runtime.h>

#include <cstdint>

#include "core/bfloat16.h"

// Of a function of threads; and of one that the host may call too.
#define UOV_DEVICE __device__ __forceinline__
#define UOV_HOST_DEVICE __host__ __device__ __forceinline__
// Before a loop whose number of passes is known when it is compiled: no loop is left of it.
#define UOV_UNROLL _Pragma("unroll")
// Before a loop that is to stay one.
#define UOV_ROLLED _Pragma("unroll 1")
// A kernel of blocks of at most so many threads.
#define UOV_KERNEL(threads) __global__ void __launch_bounds__(threads)
// The same of which so many are to have room on a processor: a bound for their registers.
#define UOV_KERNEL_OF_MANY(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
// Memory that a block's threads share: a Shared<T> of `count` numbers, known when it is compiled.
#define UOV_SHARED(T, name, count)                 \
  __shared__ __align__(16) T name##_memory[count]; \
  const ::uov::cuda::Shared<T> name = name##_memory
// The same of as many bytes as the launch asks for; one a kernel.
#define UOV_DYNAMIC_SHARED(T, name)                               \
  extern __shared__ __align__(16) unsigned char dynamic_memory[]; \
  const ::uov::cuda::Shared<T> name = reinterpret_cast<T*>(dynamic_memory)

namespace uov::cuda {

// `p[i]`, `p + n`, and the functions below. Kernels take them as parameters.
template <typename T>
using Global = T*;
template <typename T>
using Shared = T*;

// Shared memory from p on, taken for numbers of another kind.
template <typename U, typename T>
UOV_DEVICE Shared<U> shared_as(T* p) {
  return reinterpret_cast<U*>(p);
}

// On the host: `count` numbers at `data`. Null stands for none.
template <typename T>
Global<T> global(T* data, int64_t /*count*/) {
  return data;
}

// 4, 8 or 16 bytes that move at once.
template <typename T, int N>
struct alignas(sizeof(T) * N) Vector {
  T value[N];
};
// p[i], p[i + 1], ... p[i + N - 1]; the address must be a multiple of their size.
template <int N, typename T>
UOV_DEVICE Vector<T, N> load(const T* p, int64_t i) {
  return *reinterpret_cast<const Vector<T, N>*>(p + i);
}
template <int N, typename T>
UOV_DEVICE void store(T* p, int64_t i, const Vector<T, N>& v) {
  *reinterpret_cast<Vector<T, N>*>(p + i) = v;
}

// The number before. On integers alone: sums of floats would depend on the order.
template <typename T>
UOV_DEVICE T atomic_min(Global<T> p, int64_t i, T value) {
  return atomicMin(p + i, value);
}
template <typename T>
UOV_DEVICE T atomic_add(Global<T> p, int64_t i, T value) {
  return atomicAdd(p + i, value);
}
template <typename T>
UOV_DEVICE T atomic_or(Global<T> p, int64_t i, T value) {
  return atomicOr(p + i, value);
}
template <typename T>
UOV_DEVICE T atomic_exchange(Global<T> p, int64_t i, T value) {
  return atomicExch(p + i, value);
}
// What atomics of other threads may be changing.
template <typename T>
UOV_DEVICE T atomic_read(Global<T> p, int64_t i) {
  return *static_cast<const volatile T*>(p + i);
}
UOV_DEVICE int32_t atomic_compare(Global<int32_t> p, int64_t i, int32_t expected, int32_t value) {
  return atomicCAS(p + i, expected, value);
}
UOV_DEVICE uint64_t atomic_compare(Global<uint64_t> p, int64_t i, uint64_t expected,
                                   uint64_t value) {
  static_assert(sizeof(unsigned long long) == sizeof(uint64_t));
  return atomicCAS(reinterpret_cast<unsigned long long*>(p + i),
                   static_cast<unsigned long long>(expected),
                   static_cast<unsigned long long>(value));
}

// cp.async: `Bytes` (4, 8 or 16) from `from` on to `to` on, or zeros unless `valid`: then `from` is
// not read and may be anywhere. What was copied is there after a wait for its group, for the thread
// that copied it, and after a barrier that follows for the others.
template <int Bytes, typename T>
UOV_DEVICE void copy_async(T* to, const T* from, bool valid) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  const int read = valid ? Bytes : 0;
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                 "r"(read)
                 : "memory");
  } else {
    static_assert(Bytes == 4 || Bytes == 8);
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(from),
                 "n"(Bytes), "r"(read)
                 : "memory");
  }
}
// Ends a group of copies.
UOV_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until all but the last `Pending` groups of this thread have landed.
template <int Pending>
UOV_DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// The float32 next to the angle, or one beside it: CUDA's own atan2f is off by up to three.
UOV_DEVICE float nearest_atan2(float y, float x) {
  return static_cast<float>(atan2(static_cast<double>(y), static_cast<double>(x)));
}

// float32 rounded to the 10 bits of a TF32 number's fraction, to nearest, halves away from zero.
UOV_DEVICE uint32_t tf32_bits(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}
// Two bfloat16 numbers, the first in the lower half.
UOV_DEVICE uint32_t bfloat16_pair(float low, float high) {
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

// One product of a warp on its tensor cores: d += a b, 16 x 8 sums in float32, over 8 TF32 numbers
// or 16 bfloat16 ones. Fragments lie as PTX says for mma.sync.aligned.m16n8k8 and m16n8k16
// (.row.col). Called by all 32 threads of a warp together.
UOV_DEVICE void multiply_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
UOV_DEVICE void multiply_bfloat16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// ldmatrix: four matrices of eight lines of 16 bytes. Lane i of a warp says where line i % 8 of
// matrix i / 8 is; lane l gets the l % 4 th four bytes of line l / 4 of each matrix. Called by all
// 32 threads of a warp together, as multiply_* is, whose fragments these are.
UOV_DEVICE void load_matrices(uint32_t (&r)[4], const bfloat16* line) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(line));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
UOV_DEVICE void load_matrices(float (&r)[4], const float* line) {
  uint32_t bits[4];
  load_matrices(bits, reinterpret_cast<const bfloat16*>(line));
  for (int m = 0; m < 4; ++m) r[m] = __uint_as_float(bits[m]);
}
// The same of eight lines of eight bfloat16 numbers that are turned over: lane l gets the numbers
// l / 4 of lines 2 (l % 4), in the lower half, and 2 (l % 4) + 1.
UOV_DEVICE void load_matrices_transposed(uint32_t (&r)[4], const bfloat16* line) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(line));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

}  // namespace uov::cuda
#endif
