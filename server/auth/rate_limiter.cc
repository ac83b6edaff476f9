#include "server/auth/rate_limiter.h"

#include <algorithm>

namespace normlab::server {

absl::Duration RateLimiter::Take(absl::string_view key, absl::Duration now) {
  if (rate_ <= 0) {
    return absl::ZeroDuration();
  }
  absl::MutexLock lock(&mu_);
  auto found = buckets_.find(key);
  if (found == buckets_.end()) {
    found = buckets_.emplace(std::string(key), Bucket{.level = burst_, .at = now}).first;
  }
  Bucket& bucket = found->second;
  const double seconds = std::max(absl::ToDoubleSeconds(now - bucket.at), 0.0);
  bucket.level = std::min(bucket.level + seconds * rate_, burst_);
  bucket.at = std::max(bucket.at, now);
  if (bucket.level < 1) {
    return absl::Seconds((1 - bucket.level) / rate_);
  }
  bucket.level -= 1;
  return absl::ZeroDuration();
}

}  // namespace normlab::server
