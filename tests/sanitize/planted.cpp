#include "planted.h"

#include <limits>
#include <thread>
#include <vector>

extern "C" {

int read_out_of_bounds() {
  std::vector<int> numbers(10, 1);
  const volatile int* first = numbers.data();
  return first[10];
}

int overflow() {
  volatile int most = std::numeric_limits<int>::max();
  return most + 1;
}

int race() {
  int shared = 0;
  std::thread other([&] { ++shared; });
  ++shared;
  other.join();
  return shared;
}
}
