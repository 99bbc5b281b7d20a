#include "cuda/emulation/copies.h"

#include <cstddef>
#include <cstring>
#include <vector>

#include "cuda/emulation/shadow.h"
#include "cuda/emulation/threads.h"

namespace uov::cuda::emulated {
namespace {

struct OnTheirWay {
  std::vector<Copy> copies;
  std::vector<size_t> groups;  // how many of them each group that was committed has
  size_t committed = 0;
};
OnTheirWay of_thread[kMostThreads];
size_t of_all = 0;

void land(const Copy& copy) {
  if (copy.from == nullptr) {
    std::memset(copy.to, 0, copy.bytes);
  } else {
    std::memcpy(copy.to, copy.from, copy.bytes);
  }
  for (int b = 0; b < copy.bytes; b += 4) {
    land_copy(*shared_cell(static_cast<const char*>(copy.to) + b));
  }
}

}  // namespace

void add_copy(const Copy& copy) {
  of_thread[running].copies.push_back(copy);
  ++of_all;
}

void commit_copies() {
  OnTheirWay& way = of_thread[running];
  way.groups.push_back(way.copies.size() - way.committed);
  way.committed = way.copies.size();
}

void wait_for_copies(int pending) {
  OnTheirWay& way = of_thread[running];
  const int groups = static_cast<int>(way.groups.size()) - pending;
  if (groups <= 0) return;
  size_t landing = 0;
  for (int g = 0; g < groups; ++g) landing += way.groups[g];
  for (size_t c = 0; c < landing; ++c) land(way.copies[c]);
  way.copies.erase(way.copies.begin(), way.copies.begin() + static_cast<ptrdiff_t>(landing));
  way.groups.erase(way.groups.begin(), way.groups.begin() + groups);
  way.committed -= landing;
  of_all -= landing;
}

void end_copies() {
  if (of_all == 0) return;
  for (OnTheirWay& way : of_thread) {
    for (const Copy& copy : way.copies) {
      for (int b = 0; b < copy.bytes; b += 4) {
        *shared_cell(static_cast<const char*>(copy.to) + b) = {};
      }
    }
    way = {};
  }
  of_all = 0;
}

}  // namespace uov::cuda::emulated
