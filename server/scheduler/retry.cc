#include "server/scheduler/retry.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"

#include "common/sha256.h"
#include "server/domain/proto_time.h"
#include "server/domain/states.h"

namespace normlab::server {
namespace {

constexpr absl::Duration kFirstDelay = absl::Seconds(1);
constexpr absl::Duration kLongestDelay = absl::Seconds(60);
constexpr int kMostDoublings = 6;
constexpr double kJitter = 0.25;

// In [-1, 1], the same for the same text on every machine.
double Jitter(const std::string& text) {
  const std::string digest = common::Sha256Bytes(text);
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(digest[i]); };
  return (byte(0) * 256 + byte(1)) / 65535.0 * 2 - 1;
}

}  // namespace

absl::Duration RetryDelay(const v1::Job& job) {
  int failures = 0;
  for (auto it = job.attempts().rbegin(); it != job.attempts().rend(); ++it) {
    if (!it->has_failure() || !UsesUpRetry(it->failure().reason())) {
      break;
    }
    ++failures;
  }
  if (failures == 0) {
    return absl::ZeroDuration();
  }
  const absl::Duration delay =
      std::min(kFirstDelay * (1 << std::min(failures - 1, kMostDoublings)), kLongestDelay);
  return delay * (1 + kJitter * Jitter(absl::StrCat(job.name(), "#", failures)));
}

absl::Duration RemainingRetryDelay(const v1::Job& job, absl::Time now) {
  const absl::Duration whole = RetryDelay(job);
  if (whole == absl::ZeroDuration()) {
    return whole;
  }
  const absl::Duration waited = now - FromTimestamp(job.attempts().rbegin()->end_time());
  // The wall clock may have jumped in between.
  return std::clamp(whole - waited, absl::ZeroDuration(), whole);
}

}  // namespace normlab::server
