#pragma once

#include <memory>

#include "absl/status/statusor.h"

#include "server/api/backend.h"
#include "server/api/stream_reactor.h"

#include "normlab/v1/jobs.pb.h"

namespace normlab::server {

// The messages of ReadMetrics. Every point: in the order of records, so that one pass over them
// serves all series; what lies in about a megabyte of records is sent series by series, which for a
// small job is everything. Thinned: series after series. Reads a page at a time, so that a slow
// reader holds neither a thread nor a database connection. From Next: NOT_FOUND: the job, or a
// series that it does not have. INVALID_ARGUMENT here: not a job's name, an empty range, an absurd
// max_points, a position of another query.
absl::StatusOr<std::unique_ptr<StreamSource<v1::ReadMetricsResponse>>> NewMetricsSource(
    Backend& backend, const v1::ReadMetricsRequest& request);

}  // namespace normlab::server
