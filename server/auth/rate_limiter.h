#pragma once

#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace normlab::server {

// A token bucket for each key: `rate` calls a second in the long run, up to `burst` at once. Keys
// are never forgotten, so they must come from a short list (owners of tokens). Thread-safe.
class RateLimiter {
 public:
  // `rate` 0: no limit.
  RateLimiter(double rate, double burst) : rate_(rate), burst_(burst) {}

  // Zero: granted, and counted. Else how long to wait until a call would be granted; not counted.
  // `now` is monotonic, since whenever.
  absl::Duration Take(absl::string_view key, absl::Duration now);

  double rate() const { return rate_; }

 private:
  struct Bucket {
    double level = 0;
    absl::Duration at;
  };

  const double rate_;
  const double burst_;
  absl::Mutex mu_;
  std::map<std::string, Bucket, std::less<>> buckets_ ABSL_GUARDED_BY(mu_);
};

}  // namespace normlab::server
