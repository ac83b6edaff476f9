#pragma once

#include "absl/types/span.h"

#include "server/api/backend.h"

#include "normlab/v1/job.pb.h"

namespace normlab::server {

// Fills in queue_reason of those of the jobs that are QUEUED, as the scheduler sees them now. Blocks
// for some milliseconds at most.
void FillQueueReasons(Backend& backend, absl::Span<v1::Job* const> jobs);

}  // namespace normlab::server
