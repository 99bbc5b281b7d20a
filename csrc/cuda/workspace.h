// An op's workspace, cut into arrays.
#pragma once

#include <cstdint>

namespace uov::cuda {

// The same cuts give the arrays and, of no memory, how much of it they need.
class Workspace {
 public:
  explicit Workspace(void* memory = nullptr) : memory_(static_cast<uint8_t*>(memory)) {}

  template <typename T>
  T* take(int64_t count) {
    constexpr int64_t kAlignment = 256;  // what a GPU's allocations have
    const int64_t start = bytes_;
    bytes_ += (count * static_cast<int64_t>(sizeof(T)) + kAlignment - 1) / kAlignment * kAlignment;
    return memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + start);
  }
  int64_t bytes() const { return bytes_; }

 private:
  uint8_t* memory_;
  int64_t bytes_ = 0;
};

}  // namespace uov::cuda
