#pragma once

#include "absl/types/span.h"

#include "server/api/backend.h"

#include "normlab/v1/job.pb.h"

namespace normlab::server {

// Fills in queue_reason of those of the jobs that are QUEUED or STARTING, as the scheduler sees them
// now, and of those that are RUNNING whose worker has been silent for remarkably long. Blocks for
// some milliseconds at most.
void FillQueueReasons(Backend& backend, absl::Span<v1::Job* const> jobs);

}  // namespace normlab::server
