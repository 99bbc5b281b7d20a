#include "core/kernels.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace uov {
namespace {

bool can_run(const std::string& name) {
  if (name == "generic") return true;
#ifdef UOV_X86
  if (name == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (name == "avx512") return __builtin_cpu_supports("avx512f");
#endif
  return false;
}

const Kernels& table(const std::string& name) {
#ifdef UOV_X86
  if (name == "avx512") return avx512::kernels;
  if (name == "avx2") return avx2::kernels;
#endif
  return generic::kernels;
}

const Kernels& choose() {
  if (const char* wish = std::getenv("UOV_INSTRUCTION_SET")) {
    if (!can_run(wish)) {
      throw std::runtime_error(std::string("UOV_INSTRUCTION_SET=") + wish +
                               ": expected generic, avx2 or avx512, as far as this processor and "
                               "build can run it");
    }
    return table(wish);
  }
  for (const char* name : {"avx512", "avx2"}) {
    if (can_run(name)) return table(name);
  }
  return table("generic");
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace uov
