// Voxel coordinates packed into one 64-bit key whose integer order is (batch, x, y, z).
#pragma once

#include <cstdint>

// Of functions that kernels call too.
#ifdef __CUDACC__
#define UOV_ANYWHERE __host__ __device__
#else
#define UOV_ANYWHERE
#endif

namespace uov {

// Fields of 17 bits hold [-65536, 65535], and the batch has the bits that leave the sign alone:
// keys are never negative, so that signed and unsigned order, and shifts either way, are the same.
inline constexpr int kFieldBits = 17;
inline constexpr int kBatchBits = 63 - 3 * kFieldBits;
inline constexpr int64_t kFieldOffset = int64_t{1} << (kFieldBits - 1);
inline constexpr int32_t kBatchLimit = 1 << kBatchBits;

// What comes in may be as large as this. The margin is for what is derived from it: a coordinate
// rounded down to a tensor stride, and that plus the offset of any kernel used here, which cannot
// carry into the next field. A neighbour's key is then the key plus a constant.
inline constexpr int32_t kCoordinateLimit = 65000;
inline constexpr int32_t kLargestStride = 16;
inline constexpr int32_t kLargestOffset = 2 * 2 * kLargestStride;  // radius, dilation, stride
static_assert(kCoordinateLimit + kLargestStride + kLargestOffset < kFieldOffset);

// The smallest legal coordinate at a tensor stride, a power of two: legal there is what legal
// coordinates are rounded down to.
UOV_ANYWHERE constexpr int32_t smallest_coordinate(int32_t tensor_stride) {
  return -((kCoordinateLimit + tensor_stride - 1) & -tensor_stride);
}
static_assert(smallest_coordinate(1) == -65000 && smallest_coordinate(16) == -65008);

UOV_ANYWHERE constexpr bool coordinate_is_legal(int32_t batch, int32_t x, int32_t y, int32_t z,
                                                int32_t tensor_stride) {
  const int32_t smallest = smallest_coordinate(tensor_stride);
  auto inside = [smallest](int32_t c) { return c >= smallest && c <= kCoordinateLimit; };
  return batch >= 0 && batch < kBatchLimit && inside(x) && inside(y) && inside(z);
}

UOV_ANYWHERE constexpr int64_t coordinate_key(int32_t batch, int32_t x, int32_t y, int32_t z) {
  return (int64_t{batch} << (3 * kFieldBits)) | ((x + kFieldOffset) << (2 * kFieldBits)) |
         ((y + kFieldOffset) << kFieldBits) | (z + kFieldOffset);
}
static_assert(coordinate_key(kBatchLimit - 1, kCoordinateLimit, 0, 0) > 0);

// The key distance of an offset: key(c + offset) == key(c) + key_delta(offset).
UOV_ANYWHERE constexpr int64_t key_delta(int64_t dx, int64_t dy, int64_t dz) {
  return dx * (int64_t{1} << (2 * kFieldBits)) + dy * (int64_t{1} << kFieldBits) + dz;
}

UOV_ANYWHERE inline void unpack_key(int64_t key, int32_t out[4]) {
  constexpr int64_t mask = (int64_t{1} << kFieldBits) - 1;
  out[0] = static_cast<int32_t>(key >> (3 * kFieldBits));
  out[1] = static_cast<int32_t>(((key >> (2 * kFieldBits)) & mask) - kFieldOffset);
  out[2] = static_cast<int32_t>(((key >> kFieldBits) & mask) - kFieldOffset);
  out[3] = static_cast<int32_t>((key & mask) - kFieldOffset);
}

}  // namespace uov
