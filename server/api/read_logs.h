#pragma once

#include <memory>

#include "absl/status/statusor.h"

#include "server/api/backend.h"
#include "server/api/stream_reactor.h"

#include "normlab/v1/jobs.pb.h"

namespace normlab::server {

// The messages of ReadLogs: log lines among the records after `after_sequence`, in order; the end
// after the last one there is or, with `follow`, after the terminal record. Reads only chunks of
// records that have any. From Next: NOT_FOUND; OUT_OF_RANGE. INVALID_ARGUMENT here: not a job's
// name, a negative position.
absl::StatusOr<std::unique_ptr<StreamSource<v1::ReadLogsResponse>>> NewLogSource(
    Backend& backend, const v1::ReadLogsRequest& request);

}  // namespace normlab::server
