#include <cstdint>

#include "core/coordinates.h"
#include "cuda/device.h"
#include "cuda/fault.h"
#include "cuda/hash_table.h"
#include "cuda/primitives.h"
#include "cuda/voxelize.h"
#include "cuda/workspace.h"

namespace uov::cuda {
namespace {

constexpr int kThreads = 256;

// The point's key in float32 and in the order of operations of core/voxelize.cpp: a point within
// rounding of a voxel's face must fall to the same side, so that nothing may be contracted into a
// fused multiply-add. The azimuth alone may differ by a unit in the last place from that of the
// host's library. A point that close to a face between two azimuths (some 1e-5 degrees) may then
// fall to its other side: the voxels are as consistent, but not those of the CPU.
// kNoKey if it has none: a NaN or an infinity fails the comparisons too.
UOV_DEVICE uint64_t voxel_key(float x, float y, float z, const VoxelSize& size) {
  float q[3] = {x, y, z};
  if (size.cylindrical) {
    constexpr float kPi = 3.14159265358979f;
    q[0] = __fsqrt_rn(__fadd_rn(__fmul_rn(x, x), __fmul_rn(y, y)));
    q[1] = __fdiv_rn(__fmul_rn(nearest_atan2(y, x), 180.0f), kPi);
  }
  constexpr auto kLimit = static_cast<float>(kCoordinateLimit);
  int32_t cell[3];
  for (int axis = 0; axis < 3; ++axis) {
    const float c = floorf(__fdiv_rn(q[axis], size.axis[axis]));
    if (!(c >= -kLimit && c <= kLimit)) return kNoKey;
    cell[axis] = static_cast<int32_t>(c);
  }
  return static_cast<uint64_t>(coordinate_key(0, cell[0], cell[1], cell[2]));
}

// All bytes of slots, firsts and bad_point are 0xff to begin with.
struct Table {
  HashTable keys;
  Global<uint32_t> firsts;     // of every slot, the lowest point in it
  Global<uint32_t> bad_point;  // the lowest point without a voxel
  Global<uint32_t> slots;      // of every point
};
constexpr uint32_t kNone = ~uint32_t{0};

struct Points {
  Global<const float> xyz;      // [n, 3]
  Global<const int32_t> count;  // []
  int64_t n;
};
UOV_DEVICE bool count_is_legal(const Points& points) {
  return points.count[0] >= 0 && points.count[0] <= points.n;
}

UOV_KERNEL(kThreads)
insert_points(Points points, VoxelSize size, Table table) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= points.n) return;
  if (!count_is_legal(points) || i >= points.count[0]) {
    table.slots[i] = kNone;
    return;
  }
  const uint64_t key =
      voxel_key(points.xyz[3 * i], points.xyz[3 * i + 1], points.xyz[3 * i + 2], size);
  if (key == kNoKey) {
    atomic_min(table.bad_point, 0, static_cast<uint32_t>(i));
    table.slots[i] = kNone;
    return;
  }
  const int64_t slot = insert(table.keys, key).slot;
  atomic_min(table.firsts, slot, static_cast<uint32_t>(i));
  table.slots[i] = static_cast<uint32_t>(slot);
}

// Whether a point is the first of its voxel, as numbers to be summed.
UOV_KERNEL(kThreads)
mark_firsts(Table table, int64_t n, Global<int32_t> is_first) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;
  const uint32_t slot = table.slots[i];
  is_first[i] = slot != kNone && table.firsts[slot] == i ? 1 : 0;
}

struct Voxels {
  Global<int32_t> coords, first, inverse, voxels;
};

// `numbers`: how many voxels begin before each point.
UOV_KERNEL(kThreads)
number_voxels(Points points, Table table, Global<const int32_t> is_first,
              Global<const int32_t> numbers, Voxels to, Global<int32_t> fault) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, n = points.n;
  const bool counted = count_is_legal(points);
  const bool refused = !counted || table.bad_point[0] != kNone;
  const int32_t voxels = n == 0 || refused ? 0 : numbers[n - 1] + is_first[n - 1];
  if (i == 0) {
    to.voxels[0] = refused ? INT32_MAX : voxels;
    if (!counted) {
      report(fault, FaultKind::kCount, points.count[0], static_cast<int32_t>(n));
    } else if (refused) {
      report(fault, FaultKind::kPoint, static_cast<int32_t>(table.bad_point[0]), 0);
    }
  }
  if (i >= n) return;
  if (i >= voxels) {
    to.first[i] = -1;
    store<4>(to.coords, 4 * i, Vector<int32_t, 4>{{-1, -1, -1, -1}});
  }
  const uint32_t slot = table.slots[i];
  if (refused || slot == kNone) {
    to.inverse[i] = -1;
    return;
  }
  to.inverse[i] = numbers[table.firsts[slot]];
  if (is_first[i] == 0) return;
  const int64_t voxel = numbers[i];
  Vector<int32_t, 4> c;
  unpack_key(static_cast<int64_t>(table.keys.slots[slot]), c.value);
  to.first[voxel] = static_cast<int32_t>(i);
  store<4>(to.coords, 4 * voxel, c);
}

struct Scratch {
  uint64_t* keys;
  uint32_t* firsts;
  uint32_t* bad_point;
  int64_t bytes_of_ones;  // from the keys on
  uint32_t* slots;
  int32_t *is_first, *numbers;
  uint8_t* sum;
  int64_t bytes;
};

Scratch cut(void* memory, int64_t n) {
  Workspace workspace(memory);
  const int64_t slots = hash_table_slots(hash_table_bits(n));
  Scratch s{};
  s.keys = workspace.take<uint64_t>(slots);
  s.firsts = workspace.take<uint32_t>(slots);
  s.bad_point = workspace.take<uint32_t>(1);
  s.bytes_of_ones = workspace.bytes();
  s.slots = workspace.take<uint32_t>(n);
  s.is_first = workspace.take<int32_t>(n);
  s.numbers = workspace.take<int32_t>(n);
  s.sum = workspace.take<uint8_t>(exclusive_sum_workspace(n));
  s.bytes = workspace.bytes();
  return s;
}

}  // namespace

int64_t voxelize_workspace(int64_t n) { return cut(nullptr, n).bytes; }

void voxelize(Stream stream, const float* xyz, const int32_t* count, int64_t n,
              const VoxelSize& size, const VoxelArrays& arrays, void* workspace, int32_t* fault) {
  const Scratch s = cut(workspace, n);
  const int bits = hash_table_bits(n);
  const int64_t slots = hash_table_slots(bits);
  const Table table{{global(s.keys, slots), bits},
                    global(s.firsts, slots),
                    global(s.bad_point, 1),
                    global(s.slots, n)};
  const Points points{global(xyz, 3 * n), global(count, 1), n};
  const auto blocks = static_cast<unsigned>((n + kThreads - 1) / kThreads);
  // A memset, five kernels, two of which are the sum's.
  fill_bytes(stream, s.keys, 0xff, s.bytes_of_ones);
  launch(stream, "voxelize: insert_points", insert_points, dim3(blocks), kThreads, 0, points, size,
         table);
  launch(stream, "voxelize: mark_firsts", mark_firsts, dim3(blocks), kThreads, 0, table, n,
         global(s.is_first, n));
  exclusive_sum(stream, s.is_first, s.numbers, n, s.sum);
  launch(stream, "voxelize: number_voxels", number_voxels, dim3(blocks == 0 ? 1 : blocks), kThreads,
         0, points, table, global<const int32_t>(s.is_first, n),
         global<const int32_t>(s.numbers, n),
         Voxels{global(arrays.coords, 4 * n), global(arrays.first, n), global(arrays.inverse, n),
                global(arrays.voxels, 1)},
         global(fault, kFaultNumbers));
}

}  // namespace uov::cuda
