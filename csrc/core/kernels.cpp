#include "core/kernels.h"

#include <atomic>
#include <mutex>
#include <stdexcept>
#include <string>

#include "core/kernel_choice.h"

namespace uov {
namespace {

bool can_run(const std::string& name) {
  if (name == "generic") return true;
#ifdef UOV_AVX2
  if (name == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
#ifdef UOV_AVX512
  if (name == "avx512") return __builtin_cpu_supports("avx512f");
#endif
#ifdef UOV_AVX512_BF16
  if (name == "avx512_bf16") {
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512bf16");
  }
#endif
  return false;
}

const Kernels& table([[maybe_unused]] const std::string& name) {
#ifdef UOV_AVX512_BF16
  if (name == "avx512_bf16") {
    static const Kernels joined{"avx512_bf16", avx512::kernels.existing_pairs,
                                avx512::kernels.of_float, &avx512_bf16::bfloat16_rows,
                                avx512::kernels.view};
    return joined;
  }
#endif
#ifdef UOV_AVX512
  if (name == "avx512") return avx512::kernels;
#endif
#ifdef UOV_AVX2
  if (name == "avx2") return avx2::kernels;
#endif
  return generic::kernels;
}

std::atomic<const Kernels*> in_use{&generic::kernels};
std::shared_mutex held;

}  // namespace

std::vector<std::string> runnable_kernels() {
  std::vector<std::string> names;
  for (const char* name : {"generic", "avx2", "avx512", "avx512_bf16"}) {
    if (can_run(name)) names.push_back(name);
  }
  return names;
}

const char* kernels_left_out() {
  return ""
#ifdef UOV_X86
#ifndef UOV_AVX2
         " avx2"
#endif
#ifndef UOV_AVX512
         " avx512"
#endif
#ifndef UOV_AVX512_BF16
         " avx512_bf16"
#endif
#endif
      ;
}

void use_kernels(const std::string& name) {
  if (!can_run(name)) throw std::invalid_argument(name + " kernels cannot run here");
  const std::unique_lock<std::shared_mutex> lock(held);
  in_use = &table(name);
}

std::shared_lock<std::shared_mutex> hold_kernels() {
  return std::shared_lock<std::shared_mutex>(held);
}

const Kernels& kernels() { return *in_use.load(std::memory_order_relaxed); }

}  // namespace uov
