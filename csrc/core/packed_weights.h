// The weights of a convolution in the order in which the inner kernels read them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/gather_gemm_shape.h"
#include "core/kernels.h"
#include "core/parallel.h"

namespace uov {

// Weights of a convolution as slabs of `tile_columns` columns, one run per panel of input channels.
template <typename T>
class PackedWeights {
 public:
  PackedWeights(const GatherGemmShape& shape, WeightView view, const T* w)
      : shape_(shape),
        view_(view),
        w_(w),
        inner_(row_kernels<T>()),
        panel_channels_(int64_t{kPanelWords} * inner_.channels_per_word) {}

  // Most channels of a row that a panel holds.
  int64_t panel_channels() const { return panel_channels_; }

  // Words of the columns [left, right) of one slot.
  int64_t words(int64_t left, int64_t right) const {
    return inner_.words(shape_.channels_in) * padded(left, right);
  }

  // Where the panel from `channel` on begins in them.
  int64_t offset(int64_t channel, int64_t left, int64_t right) const {
    return channel / inner_.channels_per_word * padded(left, right);
  }

  // Packs these columns of slot k.
  void pack(int64_t k, int64_t left, int64_t right, float* out) const {
    const int64_t source = view_.mirrored ? shape_.kernel - 1 - k : k;
    const T* matrix = w_ + source * shape_.channels_in * shape_.channels_out;
    const int64_t stride = view_.transposed ? shape_.channels_in : shape_.channels_out;
    const auto pack = view_.transposed ? inner_.pack.transposed : inner_.pack.as_stored;
    for (int64_t first = 0; first < shape_.channels_in; first += panel_channels_) {
      const int64_t depth = std::min(panel_channels_, shape_.channels_in - first);
      for (int64_t j = left; j < right; j += inner_.tile_columns) {
        const int64_t width = std::min<int64_t>(inner_.tile_columns, right - j);
        const T* corner = matrix + (view_.transposed ? first + j * stride : first * stride + j);
        pack(corner, stride, static_cast<int>(depth), static_cast<int>(width), out);
        out += int64_t{inner_.words(depth)} * inner_.tile_columns;
      }
    }
  }

 private:
  int64_t padded(int64_t left, int64_t right) const {
    return ceil_div(right - left, inner_.tile_columns) * inner_.tile_columns;
  }

  const GatherGemmShape shape_;
  const WeightView view_;
  const T* const w_;
  const RowKernels<T>& inner_;
  const int64_t panel_channels_;
};

}  // namespace uov
