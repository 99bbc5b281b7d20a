// The rows of a factor as the inner kernels multiply them: as words of 32 bits.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/kernels.h"
#include "core/parallel.h"
#include "core/scratch.h"

namespace uov {

// Rows of words, `stride` words apart.
struct Words {
  const float* at;
  int64_t stride;
};

// The rows x [rows, channels] as words: where they lie if they are words already, else a copy, made
// once for a whole product. A row is multiplied at several offsets, so that copies for each of them
// would take longer, and a kernel that widens the numbers it multiplies far longer.
template <typename T>
class WordRows {
 public:
  WordRows(const T* x, int64_t rows, int64_t channels)
      : x_(x),
        rows_(rows),
        channels_(channels),
        inner_(row_kernels<T>()),
        stride_(inner_.words(channels)),
        in_place_(inner_.channels_per_word * sizeof(T) == sizeof(float) &&
                  channels % inner_.channels_per_word == 0),
        copied_(in_place_ ? nullptr : aligned_floats(rows * stride_)) {}

  // Parts of the copy, each a task of its own. All must have run before the words are read.
  int64_t tasks() const { return in_place_ ? 0 : ceil_div(rows_, rows_per_task(channels_)); }
  void copy(int64_t i) {
    const int64_t block = rows_per_task(channels_);
    const int64_t begin = i * block, rows = std::min(block, rows_ - begin);
    inner_.copy.rows(x_ + begin * channels_, rows, channels_, copied_.get() + begin * stride_);
  }

  Words words() const {
    return {in_place_ ? reinterpret_cast<const float*>(x_) : copied_.get(), stride_};
  }

 private:
  const T* const x_;
  const int64_t rows_, channels_;
  const RowKernels<T>& inner_;
  const int64_t stride_;
  const bool in_place_;
  const AlignedFloats copied_;
};

}  // namespace uov
