// The product of a gather-GEMM, cut into blocks of its result.
#pragma once

#include <cstdint>
#include <vector>

#include "core/gather_gemm_shape.h"
#include "core/norm.h"
#include "core/packed_weights.h"
#include "core/pair_lists.h"
#include "core/scratch.h"
#include "core/word_rows.h"

namespace uov {

// The parts of a product that are tasks of their own.
struct ProductCut {
  std::vector<RowBlock> blocks;
  bool columns = false;  // cut into columns
  int64_t used = 0;      // rows before the padding, which has blocks of its own at the end
};

// Cuts a product over `map` [K, rows_out] for so many threads. No sum depends on the cut.
ProductCut cut_product(const GatherGemmShape& shape, const int32_t* map, int64_t tile_columns,
                       int64_t threads);

// The blocks of a product, each a task of its own.
template <typename T>
class ProductBlocks {
 public:
  // x [rows_in, channels_in] as words; w and y of T.
  ProductBlocks(const GatherGemmShape& shape, WeightView view, Words x, const T* w,
                const int32_t* map, T* y, int64_t threads);

  // Slots that must be packed before a block is computed.
  int64_t slots() const { return slots_; }
  void pack(int64_t k) {
    weights_.pack(k, 0, shape_.channels_out, packed_.get() + k * slot_words());
  }

  bool columns() const { return cut_.columns; }
  int64_t count() const { return static_cast<int64_t>(cut_.blocks.size()); }
  const RowBlock& block(int64_t i) const { return cut_.blocks[i]; }
  T* result(int64_t i) const { return y_ + block(i).begin * shape_.channels_out + block(i).left; }

  // Computes block i; both others may be null.
  void compute(int64_t i, const RowAffine<T>* after, const PairLists* lists) const;

 private:
  int64_t slot_words() const { return weights_.words(0, shape_.channels_out); }

  const GatherGemmShape shape_;
  const Words x_;
  const int32_t* const map_;
  T* const y_;
  const PackedWeights<T> weights_;
  const ProductCut cut_;
  const int64_t slots_;
  const AlignedFloats packed_;
};

}  // namespace uov
