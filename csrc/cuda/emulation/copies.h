// cp.async: what a thread copies arrives when it waits for it, no earlier.
#pragma once

namespace uov::cuda::emulated {

struct Copy {
  void* to;
  const void* from;  // null: zeros
  int bytes;
};

// Of the running thread.
void add_copy(const Copy& copy);
void commit_copies();
void wait_for_copies(int pending);

// Of all threads: what none waited for has landed once the block is over, and the next one begins
// with nothing.
void end_copies();

}  // namespace uov::cuda::emulated
