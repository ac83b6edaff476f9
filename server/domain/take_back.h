#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "normlab/v1/job.pb.h"
#include "normlab/v1/records.pb.h"

namespace normlab::server {

// One more transition as those of transitions.h: takes back an attempt that the machine could not start.
// It is as if it had not begun, but for the records of it. The job is QUEUED again, or what was asked for
// meanwhile: CANCELLED, PAUSED. FAILED_PRECONDITION: the attempt is not the job's current one, or has
// said hello.
absl::Status TakeBackAttempt(v1::Job& job,
                             int32_t attempt,
                             absl::string_view why,
                             absl::Time now,
                             std::vector<v1::Segment>& records);

}  // namespace normlab::server
