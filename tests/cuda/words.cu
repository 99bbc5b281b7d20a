// One warp says the words of the kernels' language (cuda/device.h). Numbers come in and go out as
// 32 bits each, those of a thread beside each other; test_words.py knows what they should be.
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

struct Words {
  Global<const uint32_t> in;
  Global<uint32_t> out;
  int parameter;
};

UOV_DEVICE float number(uint32_t bits) { return __uint_as_float(bits); }
UOV_DEVICE int lane() { return threadIdx.x; }

// in: of each lane 4 of a, 2 of b, 4 sums; out: the sums.
template <bool kTf32>
UOV_KERNEL(32)
tensor_core_product(Words words) {
  uint32_t a[4], b[2];
  float sums[4];
  const int64_t first = 10 * lane();
  for (int i = 0; i < 4; ++i) a[i] = words.in[first + i];
  for (int i = 0; i < 2; ++i) b[i] = words.in[first + 4 + i];
  for (int i = 0; i < 4; ++i) sums[i] = number(words.in[first + 6 + i]);
  if constexpr (kTf32) {
    multiply_tf32(sums, a, b);
  } else {
    multiply_bfloat16(sums, a, b);
  }
  for (int i = 0; i < 4; ++i) words.out[4 * lane() + i] = __float_as_uint(sums[i]);
}

// in: 128 words, the lines of four matrices.
UOV_KERNEL(32) fragments(Words words) {
  UOV_SHARED(float, s, 128);
  for (int i = 0; i < 4; ++i) s[4 * lane() + i] = number(words.in[4 * lane() + i]);
  __syncthreads();
  float r[4];
  load_matrices(r, s + 4 * lane());
  for (int m = 0; m < 4; ++m) words.out[4 * lane() + m] = __float_as_uint(r[m]);
}

template <bool kTransposed>
UOV_KERNEL(32)
bfloat16_fragments(Words words) {
  UOV_SHARED(bfloat16, s, 256);
  for (int i = 0; i < 4; ++i) {
    const uint32_t pair = words.in[4 * lane() + i];
    s[8 * lane() + 2 * i] = bfloat16{static_cast<uint16_t>(pair & 0xffffu)};
    s[8 * lane() + 2 * i + 1] = bfloat16{static_cast<uint16_t>(pair >> 16)};
  }
  __syncthreads();
  uint32_t r[4];
  if constexpr (kTransposed) {
    load_matrices_transposed(r, s + 8 * lane());
  } else {
    load_matrices(r, s + 8 * lane());
  }
  for (int m = 0; m < 4; ++m) words.out[4 * lane() + m] = r[m];
}

// in: a number, and one that says how far. parameter: width.
UOV_KERNEL(32) shuffles(Words words) {
  const uint32_t value = words.in[2 * lane()], far = words.in[1];
  const int width = words.parameter;
  words.out[6 * lane()] = __shfl_sync(~0u, value, words.in[2 * lane() + 1], width);
  words.out[6 * lane() + 1] = __shfl_up_sync(~0u, value, far, width);
  words.out[6 * lane() + 2] = __shfl_down_sync(~0u, value, far, width);
  words.out[6 * lane() + 3] = __shfl_xor_sync(~0u, value, static_cast<int>(far), width);
  const uint64_t both = uint64_t{value} << 32 | static_cast<uint32_t>(lane());
  const uint64_t next = __shfl_down_sync(~0u, both, 1);
  words.out[6 * lane() + 4] = static_cast<uint32_t>(next >> 32);
  words.out[6 * lane() + 5] = static_cast<uint32_t>(next);
}

// in: a number; lanes of `parameter` vote whether it is odd.
UOV_KERNEL(32) votes(Words words) {
  const unsigned mask = static_cast<unsigned>(words.parameter);
  const uint32_t value = words.in[lane()];
  uint32_t results[3] = {};
  if ((mask >> lane() & 1) != 0) {
    const int odd = value % 2 != 0;
    results[0] = __ballot_sync(mask, odd);
    results[1] = __any_sync(mask, odd) != 0;
    results[2] = __all_sync(mask, odd) != 0;
  }
  for (int i = 0; i < 3; ++i) words.out[3 * lane() + i] = results[i];
}

UOV_KERNEL(32) bits(Words words) {
  const uint32_t value = words.in[lane()];
  words.out[3 * lane()] = static_cast<uint32_t>(__popc(value));
  words.out[3 * lane() + 1] = static_cast<uint32_t>(__ffs(static_cast<int>(value)));
  words.out[3 * lane() + 2] = static_cast<uint32_t>(__clz(static_cast<int>(value)));
}

// in: numbers, `parameter` of each lane.
UOV_KERNEL(32) roundings(Words words) {
  for (int i = 0; i < words.parameter; ++i) {
    const int64_t n = int64_t{lane()} * words.parameter + i;
    const float x = number(words.in[n]);
    words.out[2 * n] = tf32_bits(x);
    words.out[2 * n + 1] = bfloat16_pair(x, -x);
  }
}

// All lanes on the same numbers. in: what lies there before. out: that afterwards, then what each
// lane saw by the first atomic.
UOV_KERNEL(32) atomics(Words words) {
  if (lane() < 6) words.out[lane()] = words.in[lane()];
  __syncthreads();
  const uint32_t mine = static_cast<uint32_t>(lane()) + 5;
  words.out[6 + lane()] = atomic_add(words.out, 0, mine);
  atomic_min(words.out, 1, mine);
  atomic_or(words.out, 2, 1u << lane());
  if (lane() == 9) atomic_exchange(words.out, 3, mine);
  atomic_read(words.out, 4);
}

// in: 16 bytes of each lane, copied by 16, 8 or 4 (`parameter`) at once; but for every third thing
// that is copied, which stays zero.
UOV_KERNEL(32) copies(Words words) {
  UOV_SHARED(uint32_t, s, 128);
  const int at_once = words.parameter / 4;
  for (int i = 0; i < 4; i += at_once) {
    const int64_t n = 4 * lane() + i;
    const bool valid = n / at_once % 3 != 0;
    const Global<const uint32_t> from = words.in + (valid ? n : 1000000);
    if (at_once == 4) {
      copy_async<16>(s + n, from, valid);
    } else if (at_once == 2) {
      copy_async<8>(s + n, from, valid);
    } else {
      copy_async<4>(s + n, from, valid);
    }
    commit_copies();
  }
  wait_for_copies<0>();
  __syncthreads();
  for (int i = 0; i < 4; ++i) words.out[4 * lane() + i] = s[127 - 4 * lane() - i];
}

struct Word {
  const char* name;
  void (*kernel)(Words);
};
const Word kWords[] = {
    {"multiply_tf32", &tensor_core_product<true>},
    {"multiply_bfloat16", &tensor_core_product<false>},
    {"load_matrices_of_float", &fragments},
    {"load_matrices", &bfloat16_fragments<false>},
    {"load_matrices_transposed", &bfloat16_fragments<true>},
    {"shuffles", &shuffles},
    {"votes", &votes},
    {"bits", &bits},
    {"roundings", &roundings},
    {"atomics", &atomics},
    {"copies", &copies},
};

}  // namespace
}  // namespace uov::cuda

// Runs one of them. Null, or what went wrong.
extern "C" __attribute__((visibility("default"))) const char* say(const char* name,
                                                                  const uint32_t* in,
                                                                  int64_t in_count, uint32_t* out,
                                                                  int64_t out_count,
                                                                  int parameter) {
  using namespace uov::cuda;
  return error_of([&] {
    for (const Word& word : kWords) {
      if (std::strcmp(word.name, name) != 0) continue;
      DeviceCopy<const uint32_t> from(in, in_count);
      DeviceCopy<uint32_t> to(out, out_count);
      launch(Stream{}, word.name, word.kernel, dim3(1), 32, 0,
             Words{from.get(), to.get(), parameter});
      to.copy_back();
      return;
    }
    throw std::invalid_argument(std::string("no word is called ") + name);
  });
}
