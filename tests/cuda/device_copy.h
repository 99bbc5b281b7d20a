// Arrays of the host in a device's memory, for tests that compile for a GPU and for the emulation.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "cuda/device.h"
#include "cuda/launch.h"

namespace uov::cuda {

// `data` of the host, to be copied back once kernels have run.
template <typename T>
class DeviceCopy {
 public:
#ifdef UOV_EMULATED
  DeviceCopy(T* data, int64_t count)
      : device_(const_cast<std::remove_const_t<T>*>(data)), count_(count) {
    emulated::allow(data, bytes());
    emulated::mark_outside(data, bytes());
  }
  ~DeviceCopy() { emulated::forbid(device_); }
  void copy_back() {}
#else
  DeviceCopy(T* data, int64_t count) : host_(data), count_(count) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, bytes()), "memory");
    device_ = static_cast<std::remove_const_t<T>*>(memory);
    check(cudaMemcpy(device_, host_, bytes(), cudaMemcpyHostToDevice), "copy");
  }
  ~DeviceCopy() { cudaFree(device_); }
  // Once all launches have ended.
  void copy_back() { check(cudaMemcpy(host_, device_, bytes(), cudaMemcpyDeviceToHost), "copy"); }
#endif
  DeviceCopy(const DeviceCopy&) = delete;
  DeviceCopy& operator=(const DeviceCopy&) = delete;

  Global<T> get() const { return global<T>(device_, count_); }
  size_t bytes() const { return static_cast<size_t>(count_) * sizeof(T); }

 private:
#ifndef UOV_EMULATED
  T* host_;
#endif
  std::remove_const_t<T>* device_;
  int64_t count_;
};

// Runs what a library does for Python: null, or what went wrong.
template <typename Body>
const char* error_of(Body&& body) {
  thread_local std::string text;
  try {
    body();
    return nullptr;
  } catch (const std::exception& error) {
    text = error.what();
    return text.c_str();
  }
}

}  // namespace uov::cuda
