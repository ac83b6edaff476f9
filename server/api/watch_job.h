#pragma once

#include <memory>

#include "absl/status/statusor.h"

#include "server/api/backend.h"
#include "server/api/stream_reactor.h"

#include "normlab/v1/jobs.pb.h"

namespace normlab::server {

// The messages of WatchJob: a heartbeat at once (with the position and the job's progress), then
// every record after `after_sequence` in order and exactly once, heartbeats in times of silence,
// the end after the terminal record. From Next: NOT_FOUND; OUT_OF_RANGE: after_sequence is beyond
// the last record. INVALID_ARGUMENT here: not a job's name, a negative position.
absl::StatusOr<std::unique_ptr<StreamSource<v1::WatchJobResponse>>> NewWatchSource(
    Backend& backend, const v1::WatchJobRequest& request);

}  // namespace normlab::server
