#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

#include "normlab/v1/jobs.pb.h"

namespace normlab::server {

// Where a ReadMetrics stream stands: what its messages carry as `position`, opaque to clients.
struct MetricsPosition {
  // Every point: records up to `begin` were sent whole, and of those after it, up to `end`, the
  // series with ids up to `series`.
  int64_t begin = 0;
  int64_t end = 0;
  int64_t series = 0;
  // Thinned: series with ids below `series` were sent whole, and that one up to `step`.
  int64_t step = 0;
};

// As text that is bound to the query. Pure.
std::string EncodePosition(const MetricsPosition& position, const v1::ReadMetricsRequest& query);

// INVALID_ARGUMENT on `position`: not made by EncodePosition for the same query.
absl::StatusOr<MetricsPosition> DecodePosition(const v1::ReadMetricsRequest& query);

}  // namespace normlab::server
