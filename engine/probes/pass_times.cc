#include "engine/probes/pass_times.h"

#include <time.h>

#include <algorithm>
namespace normlab::engine {

double ThreadCpuSeconds() {
  constexpr double kNanoseconds = 1e-9;
  timespec now = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + kNanoseconds * static_cast<double>(now.tv_nsec);
}

PassTimes::PassTimes() {
  latest_.reserve(static_cast<size_t>(kKept));
}

void PassTimes::Add(double seconds) {
  const auto value = static_cast<float>(seconds);
  if (count_ < kKept) {
    latest_.push_back(value);
  } else {
    latest_[static_cast<size_t>(count_ % kKept)] = value;
  }
  ++count_;
}

double PassTimes::Median() const {
  if (latest_.empty()) {
    return 0;
  }
  std::vector<float> times = latest_;
  std::sort(times.begin(), times.end());
  const size_t middle = times.size() / 2;
  return times.size() % 2 == 1 ? times[middle] : (double{times[middle - 1]} + times[middle]) / 2;
}

}  // namespace normlab::engine
