#include "core/sweep_columns.h"

#include <cmath>

namespace uov {

bool sweep_is_plausible(const float* table, int64_t n, const std::vector<ColumnRange>& columns,
                        float nearest) {
  const auto width = static_cast<int64_t>(columns.size());
  bool far = false;
  for (int64_t column = 0; column < width; ++column) {
    const ColumnRange& range = columns[column];
    // What is no number is in no range.
    int64_t wrong = 0;
    float farthest = 0;
    for (int64_t i = 0; i < n; ++i) {
      const float value = table[width * i + column];
      wrong += value >= range.low && value <= range.high ? 0 : 1;
      farthest = std::fabs(value) > farthest ? std::fabs(value) : farthest;
    }
    for (int64_t i = 0; i < n && range.whole && wrong == 0; ++i) {
      const float value = table[width * i + column];
      wrong += static_cast<float>(static_cast<int32_t>(value)) == value ? 0 : 1;
    }
    if (wrong != 0) return false;
    far = far || (range.position && farthest >= nearest);
  }
  return far;
}

}  // namespace uov
