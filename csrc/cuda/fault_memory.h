// Where kernels report faults (fault.h): memory of the host that they write to.
#pragma once

#include <array>
#include <cstdint>

#include "cuda/fault.h"

namespace uov::cuda {

// kFaultNumbers numbers for the device in force, there for good. Made when first asked for, which
// must not be while XLA records a graph: whoever registers handlers asks for each device before.
int32_t* fault_numbers();

// What `device` reported first since it was last cleared.
std::array<int32_t, kFaultNumbers> fault(int device);
void clear_fault(int device);

}  // namespace uov::cuda
