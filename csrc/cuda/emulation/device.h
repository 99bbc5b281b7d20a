// The language of the kernels (cuda/device.h) on a CPU, for tests: it runs them and finds errors.
//
// Found, each with the kernel, block, thread and what was touched:
//   - accesses of global and shared memory out of bounds or not aligned, and global memory, or a
//     fill of it, beyond what the call has been given;
//   - reads of shared memory, and of an XLA call's results, that nothing wrote;
//   - reads of what another thread wrote, and writes over what another read or wrote, in shared and
//     global memory, with no barrier between. Between blocks of a launch only atomics bring order.
//     (Reads through Global<const T> are compared with earlier writes, not later writes with them:
//     which of two comes first is a matter of the order, which differs from run to run.)
//   - accesses to what a copy_async will write, until its thread waited and a barrier followed;
//   - threads that wait at a __syncthreads where others do not come; shuffles, votes and tensor
//     cores' products in which lanes that their masks name do not take part;
//   - more threads, blocks or shared memory than all devices have.
//
// Blocks, warps and lanes run in a random order, and threads may stop at atomics: what depends on
// the order gives other results in another one (use_order).
//
// Not found: loops without end; blocks of more threads than UOV_KERNEL says; memory that is touched
// by other means than Global and Shared; a source of copy_async that changes before it lands. And
// nothing is known of what a compiler or a device does on its own: registers, caches, the rounding
// of CUDA's functions, the order of sums in a tensor core. A __syncwarp of some lanes of a warp
// brings no order here, which may condemn what is right.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "core/bfloat16.h"
#include "cuda/emulation/block.h"
#include "cuda/emulation/copies.h"
#include "cuda/emulation/failure.h"
#include "cuda/emulation/grid.h"
#include "cuda/emulation/memory.h"
#include "cuda/emulation/shadow.h"

// CUDA's own.
struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

#define UOV_DEVICE inline
#define UOV_HOST_DEVICE inline
#define UOV_UNROLL
#define UOV_ROLLED
#define UOV_KERNEL(threads) void
#define UOV_KERNEL_OF_MANY(threads, blocks) void
#define UOV_SHARED(T, name, count) \
  static char name##_key;          \
  const ::uov::cuda::Shared<T> name = ::uov::cuda::emulated::shared_array<T>(&name##_key, count)
#define UOV_DYNAMIC_SHARED(T, name) \
  const ::uov::cuda::Shared<T> name = ::uov::cuda::emulated::dynamic_array<T>()

namespace uov::cuda {
namespace emulated {

template <typename T>
std::string type_name() {
  using U = std::remove_const_t<T>;
  if (std::is_same_v<U, bfloat16>) return "bfloat16";
  const char* kind = std::is_floating_point_v<U> ? "float"
                     : std::is_unsigned_v<U>     ? "uint"
                     : std::is_integral_v<U>     ? "int"
                                                 : "struct of bits ";
  return kind + std::to_string(8 * sizeof(U));
}

inline const char* name_of(Space space) { return space == Space::kShared ? "shared" : "global"; }

[[noreturn]] void fail_conflict(const Conflict& conflict, const std::string& what);

// Numbers of a kind of memory, from number `offset` on of `count` that there are.
template <typename T, Space space>
class Array;

// p[i] of numbers that may be written. Reads when it is converted: it cannot be kept for later.
template <typename T, Space space>
class Reference {
 public:
  Reference(const Array<T, space>& array, int64_t i) : array_(array), i_(i) {}
  Reference(const Reference&) = delete;

  operator T() && { return array_.read(i_); }
  void operator=(T value) && { array_.write(i_, value); }
  void operator=(Reference&& other) && { array_.write(i_, other.array_.read(other.i_)); }
#define UOV_ASSIGNMENT(op) \
  void operator op## = (T value) && { array_.write(i_, static_cast<T>(array_.read(i_) op value)); }
  UOV_ASSIGNMENT(+)
  UOV_ASSIGNMENT(-)
  UOV_ASSIGNMENT(*)
  UOV_ASSIGNMENT(/)
  UOV_ASSIGNMENT(|)
  UOV_ASSIGNMENT(&)
  UOV_ASSIGNMENT(^)
#undef UOV_ASSIGNMENT

 private:
  const Array<T, space>& array_;
  int64_t i_;
};

template <typename T, Space space>
class Array {
 public:
  using Value = std::remove_const_t<T>;
  static_assert(std::is_trivially_copyable_v<Value>);
  // So that the words of a number, or of a vector, are watched in one page.
  static_assert(sizeof(T) == alignof(T) && sizeof(T) <= 16);

  Array() = default;
  Array(std::nullptr_t) {}
  Array(T* data, int64_t count) : data_(data), count_(count) {}
  template <typename U, typename = std::enable_if_t<std::is_same_v<T, const U>>>
  Array(const Array<U, space>& other)
      : data_(other.data_), offset_(other.offset_), count_(other.count_) {}

  auto operator[](int64_t i) const {
    if constexpr (std::is_const_v<T>) {
      return read(i);
    } else {
      return Reference<T, space>(*this, i);
    }
  }
  Array operator+(int64_t n) const {
    Array moved = *this;
    moved.offset_ += n;
    return moved;
  }
  Array& operator+=(int64_t n) {
    offset_ += n;
    return *this;
  }
  explicit operator bool() const { return data_ != nullptr; }
  bool operator==(std::nullptr_t) const { return data_ == nullptr; }
  bool operator!=(std::nullptr_t) const { return data_ != nullptr; }

  Value read(int64_t i) const {
    Value value;
    read_bytes<sizeof(T)>(i, &value);
    return value;
  }
  void write(int64_t i, Value value) const { write_bytes<sizeof(T)>(i, &value); }

  // N bytes from number i on. Their address must be a multiple of N where they are a vector's.
  template <int N>
  void read_bytes(int64_t i, void* to) const {
    const Value* from = locate<N>(i, "read");
    check<N>(from, i);
    std::memcpy(to, from, N);
  }
  template <int N>
  void write_bytes(int64_t i, const void* from) const {
    Value* to = locate<N>(i, "write");
    if constexpr (N < 4) {
      require(write_word(space, *cell(to, true), bytes_of<N>(to)), i, N);
    } else {
      Cell* cells = cell(to, true);
      for (int w = 0; w < N / 4; ++w) require(check_write<space>(cells[w]), i, N);
    }
    std::memcpy(to, from, N);
  }
  template <int N>
  void check_bytes(int64_t i) const {
    check<N>(locate<N>(i, "read"), i);
  }
  // f(old) instead of old, at once; returns old.
  template <typename F>
  Value update(int64_t i, F f) const {
    maybe_pause();
    Value* value = locate<sizeof(T)>(i, "update");
    Cell* cells = cell(value, true);
    for (size_t w = 0; w < sizeof(T) / 4; ++w) {
      require(update_word(space, cells[w], 15), i, sizeof(T));
    }
    const Value old = *value;
    *value = f(old);
    return old;
  }
  Value read_atomically(int64_t i) const {
    maybe_pause();
    const Value* value = locate<sizeof(T)>(i, "read");
    Cell* cells = cell(value, true);
    for (size_t w = 0; w < sizeof(T) / 4; ++w) {
      require(read_word_atomically(space, cells[w], 15), i, sizeof(T));
    }
    return *value;
  }
  // To let a copy of N bytes begin.
  template <int N>
  Value* copy_target(int64_t i) const {
    static_assert(space == Space::kShared);
    Value* to = locate<N>(i, "copy");
    for (int w = 0; w < N / 4; ++w) require(begin_copy(shared_cell(to)[w]), i, N);
    return to;
  }
  const Value* address(int64_t i) const { return data_ + offset_ + i; }

  // The same, once it has been seen to begin at a multiple of N bytes.
  template <int N>
  Array aligned() const {
    locate<N>(0, "read");
    return *this;
  }
  // The same memory as numbers of another type.
  template <typename U>
  Array<U, space> as() const {
    const auto address = reinterpret_cast<uintptr_t>(data_ + offset_);
    const int64_t bytes = (count_ - offset_) * static_cast<int64_t>(sizeof(T));
    if (offset_ < 0 || bytes < 0 || address % alignof(U) != 0) {
      fail(name(0) + " taken for " + type_name<U>());
    }
    return {reinterpret_cast<U*>(data_ + offset_), bytes / static_cast<int64_t>(sizeof(U))};
  }

 private:
  template <typename U, Space other>
  friend class Array;

  std::string name(int64_t i) const {
    return std::string(name_of(space)) + " " + type_name<T>() + " [" + std::to_string(offset_ + i) +
           "] of " + std::to_string(count_);
  }
  void require(const Conflict& conflict, int64_t i, int64_t bytes) const {
    if (__builtin_expect(conflict.what != nullptr, 0)) complain(conflict, i, bytes);
  }
  [[gnu::cold, gnu::noinline, noreturn]] void complain(const Conflict& conflict, int64_t i,
                                                       int64_t bytes) const {
    fail_conflict(conflict, name(i) + ", " + std::to_string(bytes) + " bytes");
  }
  [[gnu::cold, gnu::noinline, noreturn]] void refuse(const char* access, int64_t i, int64_t bytes,
                                                     const char* why) const {
    fail(std::string(access) + " of " + std::to_string(bytes) + " bytes from " + name(i) +
         " on: " + why);
  }

  template <int N>
  Value* locate(int64_t i, const char* access) const {
    constexpr int64_t kNumbers = N / sizeof(T);
    static_assert(kNumbers * sizeof(T) == N);
    const int64_t first = offset_ + i;
    if (__builtin_expect(first < 0 || first + kNumbers > count_, 0)) {
      refuse(access, i, N, "out of bounds");
    }
    Value* address = const_cast<Value*>(data_) + first;
    if constexpr (kNumbers > 1) {
      if (__builtin_expect(reinterpret_cast<uintptr_t>(address) % N != 0, 0)) {
        refuse(access, i, N, "not aligned");
      }
    }
    return address;
  }
  static Cell* cell(const void* address, bool make) {
    if constexpr (space == Space::kShared) return shared_cell(address);
    return global_cell(address, make);
  }
  template <int N>
  static unsigned bytes_of(const void* address) {
    return ((1u << N) - 1) << (reinterpret_cast<uintptr_t>(address) % 4);
  }
  template <int N>
  void check(const Value* from, int64_t i) const {
    // What only ever is read need not be watched.
    constexpr bool kRecord = space == Space::kShared || !std::is_const_v<T>;
    Cell* cells = cell(from, kRecord);
    if (space == Space::kGlobal && cells == nullptr) return;
    if constexpr (N < 4) {
      require(read_word(space, *cells, bytes_of<N>(from), kRecord), i, N);
    } else {
      for (int w = 0; w < N / 4; ++w) require(check_read<space>(cells[w], kRecord), i, N);
    }
  }

  T* data_ = nullptr;
  int64_t offset_ = 0, count_ = 0;
};

template <typename T>
Array<T, Space::kShared> shared_array(const void* key, int64_t count) {
  const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
  return {static_cast<T*>(static_shared(key, bytes)), count};
}
template <typename T>
Array<T, Space::kShared> dynamic_array() {
  int64_t bytes;
  void* data = dynamic_shared(&bytes);
  return {static_cast<T*>(data), bytes / static_cast<int64_t>(sizeof(T))};
}

}  // namespace emulated

template <typename T>
using Global = emulated::Array<T, emulated::Space::kGlobal>;
template <typename T>
using Shared = emulated::Array<T, emulated::Space::kShared>;

template <typename U, typename T>
Shared<U> shared_as(const Shared<T>& p) {
  return p.template as<U>();
}

template <typename T>
Global<T> global(T* data, int64_t count) {
  if (reinterpret_cast<uintptr_t>(data) % alignof(T) != 0 || count < 0) {
    throw emulated::KernelError("global memory of " + std::to_string(count) + " " +
                                emulated::type_name<T>() + " that is not aligned to them");
  }
  if (data != nullptr) {
    const auto bytes = count * static_cast<int64_t>(sizeof(T));
    emulated::require_allowed(data, bytes, "global memory");
  }
  return data == nullptr ? Global<T>() : Global<T>(data, count);
}

template <typename T, int N>
struct alignas(sizeof(T) * N) Vector {
  T value[N];
};
template <int N, typename T, emulated::Space space>
Vector<std::remove_const_t<T>, N> load(const emulated::Array<T, space>& p, int64_t i) {
  static_assert(sizeof(T) * N <= 16);
  Vector<std::remove_const_t<T>, N> v;
  p.template read_bytes<sizeof(v)>(i, &v);
  return v;
}
template <int N, typename T, emulated::Space space>
void store(const emulated::Array<T, space>& p, int64_t i, const Vector<T, N>& v) {
  static_assert(sizeof(T) * N <= 16);
  p.template write_bytes<sizeof(v)>(i, &v);
}

namespace emulated {
// As CUDA has them, for all that are used here.
template <typename T>
inline constexpr bool kHasAtomics = std::is_same_v<T, int32_t> || std::is_same_v<T, uint32_t>;
}  // namespace emulated

#define UOV_ATOMIC(name, result)                                                       \
  template <typename T, emulated::Space space>                                         \
  T name(const emulated::Array<T, space>& p, int64_t i, std::common_type_t<T> value) { \
    static_assert(emulated::kHasAtomics<T>, "atomics are for int32 and uint32");       \
    return p.update(i, [&](T old) { return static_cast<T>(result); });                 \
  }
UOV_ATOMIC(atomic_min, value < old ? value : old)
UOV_ATOMIC(atomic_max, value > old ? value : old)
UOV_ATOMIC(atomic_add, old + value)
UOV_ATOMIC(atomic_or, old | value)
UOV_ATOMIC(atomic_exchange, (static_cast<void>(old), value))
#undef UOV_ATOMIC
template <typename T, emulated::Space space>
T atomic_read(const emulated::Array<T, space>& p, int64_t i) {
  return p.read_atomically(i);
}
template <typename T, emulated::Space space>
T atomic_compare(const emulated::Array<T, space>& p, int64_t i, std::common_type_t<T> expected,
                 std::common_type_t<T> value) {
  static_assert(std::is_same_v<T, int32_t> || std::is_same_v<T, uint64_t>);
  return p.update(i, [&](T old) { return old == expected ? value : old; });
}

template <int Bytes, typename T, typename U>
void copy_async(const Shared<T>& to, const Global<U>& from, bool valid) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  static_assert(std::is_same_v<const T, const U>);
  if (valid) from.template check_bytes<Bytes>(0);
  emulated::add_copy({to.template copy_target<Bytes>(0), valid ? from.address(0) : nullptr, Bytes});
}
inline void commit_copies() { emulated::commit_copies(); }
template <int Pending>
void wait_for_copies() {
  emulated::wait_for_copies(Pending);
}

inline uint32_t tf32_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffffffu;
  return (bits + 0x1000u) & ~0x1fffu;
}
inline uint32_t bfloat16_pair(float low, float high) {
  return from_float<bfloat16>(low).bits | uint32_t{from_float<bfloat16>(high).bits} << 16;
}

// Where a word of the language stands in the kernel.
#define UOV_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

void multiply_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], UOV_SITE);
void multiply_bfloat16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], UOV_SITE);
void load_matrices(uint32_t (&r)[4], const Shared<const bfloat16>& line_of_lane, UOV_SITE);
void load_matrices(float (&r)[4], const Shared<const float>& line_of_lane, UOV_SITE);
void load_matrices_transposed(uint32_t (&r)[4], const Shared<const bfloat16>& line_of_lane,
                              UOV_SITE);

inline float nearest_atan2(float y, float x) { return std::atan2(y, x); }

namespace emulated {

void shuffle(Lane* lanes, unsigned mask);
void vote(Lane* lanes, unsigned mask);

// `source`: the lane to take from, its own where that would lie outside of its `width` lanes.
template <typename T>
T shuffle_from(unsigned mask, T value, int source, Site site) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  Lane lane;
  std::memcpy(&lane.value, &value, sizeof(T));
  lane.source = source;
  const Lane& met = meet_warp(Meeting::kShuffle, mask, lane, site, &shuffle);
  std::memcpy(&value, &met.result, sizeof(T));
  return value;
}

}  // namespace emulated
}  // namespace uov::cuda

// CUDA's own words again.
inline void __syncthreads(UOV_SITE) { uov::cuda::emulated::meet_block({file, line}); }
inline void __syncwarp(unsigned mask = ~0u, UOV_SITE) {
  uov::cuda::emulated::meet_warp(uov::cuda::emulated::Meeting::kSyncWarp, mask, {}, {file, line},
                                 [](uov::cuda::emulated::Lane*, unsigned) {});
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, UOV_SITE) {
  const int lane = uov::cuda::emulated::lane_index(), first = lane & -width;
  return uov::cuda::emulated::shuffle_from(mask, value, first + (source & (width - 1)),
                                           {file, line});
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, UOV_SITE) {
  const int lane = uov::cuda::emulated::lane_index(), first = lane & -width;
  const int source = lane - static_cast<int>(delta);
  return uov::cuda::emulated::shuffle_from(mask, value, source < first ? lane : source,
                                           {file, line});
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, UOV_SITE) {
  const int lane = uov::cuda::emulated::lane_index(), end = (lane & -width) + width;
  const int source = lane + static_cast<int>(delta);
  return uov::cuda::emulated::shuffle_from(mask, value, source >= end ? lane : source,
                                           {file, line});
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, UOV_SITE) {
  const int lane = uov::cuda::emulated::lane_index(), end = (lane & -width) + width;
  const int source = lane ^ bits;
  return uov::cuda::emulated::shuffle_from(mask, value, source >= end ? lane : source,
                                           {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, UOV_SITE) {
  uov::cuda::emulated::Lane lane;
  lane.value = predicate != 0;
  return static_cast<unsigned>(uov::cuda::emulated::meet_warp(uov::cuda::emulated::Meeting::kVote,
                                                              mask, lane, {file, line},
                                                              &uov::cuda::emulated::vote)
                                   .result);
}
inline int __any_sync(unsigned mask, int predicate, UOV_SITE) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, UOV_SITE) {
  return __ballot_sync(mask, predicate, file, line) == mask;
}
#undef UOV_SITE

inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}
inline float __uint_as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}
inline unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof(x));
  return bits;
}
inline float __int_as_float(int bits) { return __uint_as_float(static_cast<unsigned>(bits)); }
inline int __float_as_int(float x) { return static_cast<int>(__float_as_uint(x)); }
template <typename T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
