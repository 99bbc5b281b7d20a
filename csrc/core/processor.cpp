#include "core/kernel_choice.h"

#ifdef UOV_X86
#include <cpuid.h>
#endif

namespace uov {

Processor processor() {
  Processor found;
#ifdef UOV_X86
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0, &a, &b, &c, &d)) {
    for (const unsigned word : {b, d, c}) {
      for (int byte = 0; byte < 4; ++byte) found.vendor += static_cast<char>(word >> 8 * byte);
    }
  }
  if (__get_cpuid(1, &a, &b, &c, &d)) {
    // The extended fields count on where the first ones are full.
    const int family = a >> 8 & 0xf, model = a >> 4 & 0xf;
    found.family = family == 15 ? family + static_cast<int>(a >> 20 & 0xff) : family;
    found.model = family == 6 || family == 15 ? model + static_cast<int>(a >> 12 & 0xf0) : model;
  }
#endif
  return found;
}

}  // namespace uov
