// A mark for loops whose result may stand where an input does.
#pragma once

// Before a `for`: its iterations are independent, although the compiler cannot see it, as what one
// writes is read by no other.
#ifdef __clang__
#define UOV_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define UOV_INDEPENDENT _Pragma("GCC ivdep")
#endif
