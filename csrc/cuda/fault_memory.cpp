#include "cuda/fault_memory.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "cuda/launch.h"

namespace uov::cuda {
namespace {

#ifdef UOV_EMULATED

// All devices are the same, the CPU.
int current_device() { return 0; }
int32_t* numbers_of(int) {
  static int32_t numbers[kFaultNumbers] = {};
  return numbers;
}

#else

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "device");
  return device;
}

int32_t* allocate(int device) {
  const int before = current_device();
  void* memory = nullptr;
  check(cudaSetDevice(device), "device");
  const cudaError_t status =
      cudaHostAlloc(&memory, kFaultNumbers * sizeof(int32_t), cudaHostAllocPortable);
  check(cudaSetDevice(before), "device");
  check(status, "memory for faults");
  return static_cast<int32_t*>(memory);
}

// Under unified addressing, which all 64-bit devices have, one address is both sides'.
int32_t* numbers_of(int device) {
  static std::mutex mutex;
  static std::map<int, int32_t*> memory;
  const std::lock_guard<std::mutex> lock(mutex);
  int32_t*& numbers = memory[device];
  if (numbers == nullptr) {
    numbers = allocate(device);
    std::fill_n(numbers, kFaultNumbers, 0);
  }
  return numbers;
}

#endif

}  // namespace

int32_t* fault_numbers() {
  int32_t* numbers = numbers_of(current_device());
#ifdef UOV_EMULATED
  emulated::allow(numbers, kFaultNumbers * sizeof(int32_t));
#endif
  return numbers;
}

std::array<int32_t, kFaultNumbers> fault(int device) {
  const volatile int32_t* numbers = numbers_of(device);
  std::array<int32_t, kFaultNumbers> copy;
  for (int i = 0; i < kFaultNumbers; ++i) copy[i] = numbers[i];
  return copy;
}

void clear_fault(int device) {
  volatile int32_t* numbers = numbers_of(device);
  for (int i = 0; i < kFaultNumbers; ++i) numbers[i] = 0;
}

}  // namespace uov::cuda
