#include "core/kernels.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

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
                                avx512::kernels.of_float, &avx512_bf16::bfloat16_rows};
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

const Kernels& choose() {
  if (const char* wish = std::getenv("UOV_INSTRUCTION_SET")) {
    if (!can_run(wish)) {
      const std::string left_out = kernels_left_out();
      throw std::runtime_error(std::string("UOV_INSTRUCTION_SET=") + wish +
                               ": expected generic, avx2, avx512 or avx512_bf16, as far as this "
                               "processor and build can run it" +
                               (left_out.empty() ? "" : "; not in this build:" + left_out));
    }
    return table(wish);
  }
  for (const char* name : {"avx512_bf16", "avx512", "avx2"}) {
    if (can_run(name)) return table(name);
  }
  return table("generic");
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
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

}  // namespace uov
