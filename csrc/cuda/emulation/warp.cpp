// What the lanes of a warp do together: shuffles, votes, products of tensor cores.
#include <cstring>
#include <string>

#include "cuda/emulation/device.h"

namespace uov::cuda {
namespace emulated {

void fail_conflict(const Conflict& conflict, const std::string& what) {
  std::string text = std::string(conflict.what) + ": " + what;
  if (conflict.other > kOutside) {
    text +=
        "; the other was " + std::string((conflict.other & kSeveral) != 0 ? "several, last " : "");
    text += "thread " + std::to_string(conflict.other & kThreadMask);
    if (conflict.other < clock.block_begin) text += " of another block";
  }
  fail(text);
}

void shuffle(Lane* lanes, unsigned mask) {
  for (int lane = 0; lane < 32; ++lane) {
    if (((mask >> lane) & 1) == 0) continue;
    const int source = lanes[lane].source;
    if (((mask >> source) & 1) == 0) {
      fail("a shuffle with mask " + hexadecimal(mask) + " takes from lane " +
           std::to_string(source) + ", which does not take part");
    }
    lanes[lane].result = lanes[source].value;
  }
}

void vote(Lane* lanes, unsigned mask) {
  unsigned votes = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if (((mask >> lane) & 1) != 0 && lanes[lane].value != 0) votes |= 1u << lane;
  }
  for (int lane = 0; lane < 32; ++lane) {
    if (((mask >> lane) & 1) != 0) lanes[lane].result = votes;
  }
}

namespace {

float number(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

uint32_t word(const void* words, int i) { return static_cast<const uint32_t*>(words)[i]; }

// sums [16][8] += a [16][kDepth] b [kDepth][8], whose lanes hold what PTX says: lane 4 g + t has of
// the sums rows g and g + 8, columns 2 t and 2 t + 1.
template <int kDepth>
void multiply(Lane* lanes, const float (&a)[16][kDepth], const float (&b)[kDepth][8]) {
  float sums[16][8];
  const auto for_sums = [&](auto move) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        move(sums[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2],
             static_cast<float*>(lanes[lane].out)[i]);
      }
    }
  };
  for_sums([](float& sum, float of_lane) { sum = of_lane; });
  for (int m = 0; m < 16; ++m) {
    for (int k = 0; k < kDepth; ++k) {
      for (int n = 0; n < 8; ++n) sums[m][n] += a[m][k] * b[k][n];
    }
  }
  for_sums([](float sum, float& of_lane) { of_lane = sum; });
}

// a: rows g and g + 8 of column t, then of column t + 4. b: rows t and t + 4 of column g. Tensor
// cores do not see the bits beyond TF32's.
void act_tf32(Lane* lanes, unsigned) {
  constexpr uint32_t kSeen = ~0x1fffu;
  float a[16][8], b[8][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i)
      a[g + i % 2 * 8][t + i / 2 * 4] = number(word(lanes[lane].a, i) & kSeen);
    for (int i = 0; i < 2; ++i) b[t + i * 4][g] = number(word(lanes[lane].b, i) & kSeen);
  }
  multiply<8>(lanes, a, b);
}

// Pairs, the first in the lower half. a: rows g and g + 8 of columns 2 t and 2 t + 1, then of
// columns 2 t + 8 and 2 t + 9. b: rows 2 t and 2 t + 1, then 2 t + 8 and 2 t + 9, of column g.
void act_bfloat16(Lane* lanes, unsigned) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; ++half) {
      const auto part = [&](uint32_t pair) {
        return number(half == 0 ? pair << 16 : pair & ~0xffffu);
      };
      for (int i = 0; i < 4; ++i)
        a[g + i % 2 * 8][2 * t + half + i / 2 * 8] = part(word(lanes[lane].a, i));
      for (int i = 0; i < 2; ++i) b[2 * t + half + i * 8][g] = part(word(lanes[lane].b, i));
    }
  }
  multiply<16>(lanes, a, b);
}

using Line = Shared<const uint32_t>;

Line line_of(const Shared<const bfloat16>& numbers) {
  return numbers.aligned<16>().as<const uint32_t>();
}

// What lane `lane` reads of line `line` of matrix `m`: the `i`th four bytes.
uint32_t read_line(const Lane* lanes, int lane, int m, int line, int i) {
  // It is that lane that reads, not the last one that came.
  clock.now = (clock.now & ~Stamp{31}) | static_cast<Stamp>(lane);
  return (*static_cast<const Line*>(lanes[8 * m + line].a))[i];
}

void act_load(Lane* lanes, unsigned) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int m = 0; m < 4; ++m) {
      static_cast<uint32_t*>(lanes[lane].out)[m] = read_line(lanes, lane, m, lane / 4, lane % 4);
    }
  }
}

void act_load_transposed(Lane* lanes, unsigned) {
  for (int lane = 0; lane < 32; ++lane) {
    const int column = lane / 4, line = lane % 4 * 2;
    for (int m = 0; m < 4; ++m) {
      const uint32_t low = read_line(lanes, lane, m, line, column / 2);
      const uint32_t high = read_line(lanes, lane, m, line + 1, column / 2);
      static_cast<uint32_t*>(lanes[lane].out)[m] =
          column % 2 == 0 ? (low & 0xffffu) | high << 16 : low >> 16 | (high & ~0xffffu);
    }
  }
}

void meet(Meeting meeting, void* out, const void* a, const void* b, Site site,
          void (*act)(Lane*, unsigned)) {
  Lane lane;
  lane.out = out;
  lane.a = a;
  lane.b = b;
  meet_warp(meeting, ~0u, lane, site, act);
}

}  // namespace
}  // namespace emulated

using emulated::Meeting;

void multiply_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const char* file,
                   int line) {
  emulated::meet(Meeting::kTf32, d, a, b, {file, line}, &emulated::act_tf32);
}
void multiply_bfloat16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                       const char* file, int line) {
  emulated::meet(Meeting::kBfloat16, d, a, b, {file, line}, &emulated::act_bfloat16);
}
void load_matrices(uint32_t (&r)[4], const Shared<const bfloat16>& row, const char* file,
                   int line) {
  const auto words = emulated::line_of(row);
  emulated::meet(Meeting::kLoadMatrices, r, &words, nullptr, {file, line}, &emulated::act_load);
}
void load_matrices(float (&r)[4], const Shared<const float>& row, const char* file, int line) {
  uint32_t bits[4];
  load_matrices(bits, row.as<const bfloat16>(), file, line);
  std::memcpy(r, bits, sizeof(bits));
}
void load_matrices_transposed(uint32_t (&r)[4], const Shared<const bfloat16>& row, const char* file,
                              int line) {
  const auto words = emulated::line_of(row);
  emulated::meet(Meeting::kLoadTransposed, r, &words, nullptr, {file, line},
                 &emulated::act_load_transposed);
}

}  // namespace uov::cuda
