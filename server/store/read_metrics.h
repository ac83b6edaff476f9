#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"

#include "server/store/read_pool.h"
#include "server/store/store.h"

namespace normlab::server {

using MetricSink = std::function<bool(
    const std::string& series, absl::Span<const int64_t> steps, absl::Span<const double> values)>;

// Store::ReadMetrics. Reads what was committed when it began, in slices of about a megabyte, with
// no statement open and no connection held while `sink` runs. Keeps at most `buffer_points` points
// in memory (more only for a single series thinned to more). Of several series each is sent whole
// before the next.
absl::Status ReadMetricPoints(ReadPool& pool,
                              const MetricQuery& query,
                              const MetricSink& sink,
                              int64_t buffer_points = int64_t{1} << 20);

}  // namespace normlab::server
