#pragma once

#include <cstdint>
#include <vector>

namespace normlab::engine {

// CPU time of the calling thread so far. What it is compared with must be measured by the same thread: of work that OpenMP
// shares out it is this thread's part. Other programs on the machine hardly change it, unlike the time on the wall. [seconds]
double ThreadCpuSeconds();

// The latest times of something that is done over and over, for their median: a cold first run and the scheduler's hiccups
// do not move it. Add allocates nothing. Not thread-safe.
class PassTimes {
 public:
  PassTimes();

  void Add(double seconds);
  // Of the latest kKept; 0: none so far.
  double Median() const;

 private:
  static constexpr int64_t kKept = 101;

  std::vector<float> latest_;  // a ring
  int64_t count_ = 0;
};

}  // namespace normlab::engine
