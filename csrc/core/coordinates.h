// Voxel coordinates packed into one 64-bit key whose integer order is (batch, x, y, z).
#pragma once

#include <cstdint>

namespace uov {

// Fields of 17 bits hold [-65536, 65535]. The limit keeps a margin, so that adding the offset of
// any kernel used here (at most 2 * 16 * 2 = 64) to a legal coordinate cannot carry into the next
// field: a neighbour's key is then the key plus a constant.
inline constexpr int32_t kCoordinateLimit = 65000;
inline constexpr int32_t kBatchLimit = 8192;
inline constexpr int kFieldBits = 17;
inline constexpr int64_t kFieldOffset = int64_t{1} << (kFieldBits - 1);

inline bool coordinate_is_legal(int32_t batch, int32_t x, int32_t y, int32_t z) {
  auto inside = [](int32_t c) { return c >= -kCoordinateLimit && c <= kCoordinateLimit; };
  return batch >= 0 && batch < kBatchLimit && inside(x) && inside(y) && inside(z);
}

inline int64_t coordinate_key(int32_t batch, int32_t x, int32_t y, int32_t z) {
  return (int64_t{batch} << (3 * kFieldBits)) | ((x + kFieldOffset) << (2 * kFieldBits)) |
         ((y + kFieldOffset) << kFieldBits) | (z + kFieldOffset);
}

// The key distance of an offset: key(c + offset) == key(c) + key_delta(offset).
inline int64_t key_delta(int64_t dx, int64_t dy, int64_t dz) {
  return dx * (int64_t{1} << (2 * kFieldBits)) + dy * (int64_t{1} << kFieldBits) + dz;
}

inline void unpack_key(int64_t key, int32_t out[4]) {
  constexpr int64_t mask = (int64_t{1} << kFieldBits) - 1;
  out[0] = static_cast<int32_t>(key >> (3 * kFieldBits));
  out[1] = static_cast<int32_t>(((key >> (2 * kFieldBits)) & mask) - kFieldOffset);
  out[2] = static_cast<int32_t>(((key >> kFieldBits) & mask) - kFieldOffset);
  out[3] = static_cast<int32_t>((key & mask) - kFieldOffset);
}

}  // namespace uov
