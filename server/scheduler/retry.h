#pragma once

#include "absl/time/time.h"

#include "normlab/v1/job.pb.h"

namespace normlab::server {

// How long a job waits after its last attempts failed by their own fault (UsesUpRetry): 1 s, doubling
// to a minute, a quarter more or less by the job's name and the number of failures: jobs that failed
// together do not come back together, and the same job always waits as long. Zero after an attempt
// that the service itself ended. Pure.
absl::Duration RetryDelay(const v1::Job& job);

// No job waits longer, whatever its failures: a minute and a quarter of it.
inline constexpr absl::Duration kLongestRetryDelay = absl::Seconds(75);

// What is left of it at `now` (wall clock), counted from the end of the last attempt; never more
// than the whole.
absl::Duration RemainingRetryDelay(const v1::Job& job, absl::Time now);

}  // namespace normlab::server
