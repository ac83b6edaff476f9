#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "normlab/v1/records.pb.h"

namespace normlab::server {

// One point of a series.
struct MetricPoint {
  int64_t step = 0;
  double value = 0;
};

// What a sealed chunk has of one series: enough to thin its curve without reading the points.
struct SeriesSummary {
  uint32_t series = 0;  // the job's id
  int64_t count = 0;    // points, NaNs included
  int64_t nans = 0;
  MetricPoint first;
  MetricPoint last;
  // The first least and the first greatest of the points that are no NaN (infinities included).
  // Without meaning when all are.
  MetricPoint minimum;
  MetricPoint maximum;
  int64_t first_nan_step = 0;  // without meaning when there is none
};

// Of every series in a chunk, in the order of ids; nothing when the chunk has so few points of a
// series that a summary would be about as long. Pure.
std::vector<SeriesSummary> Summarize(const v1::RecordBatch& batch);

// As stored: a version byte, then entries of fixed size, little-endian. Pure.
std::string EncodeSummaries(const std::vector<SeriesSummary>& summaries);
// False: not such an encoding.
bool DecodeSummaries(absl::string_view bytes, std::vector<SeriesSummary>& summaries);

}  // namespace normlab::server
