#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "normlab/v1/jobs.pb.h"

namespace normlab::client {

// One step's points for the fake: series and value, in the order of columns.
struct FakePoints {
  int64_t step = 0;
  int64_t elapsed_us = 0;
  std::vector<std::pair<std::string, double>> values;
};
using FakeRecord = std::variant<FakePoints, normlab::v1::StateChange, normlab::v1::LogLine>;

FakeRecord FakeState(normlab::v1::Job::State state, const std::string& message = "");
FakeRecord FakeLog(const std::string& text);

// Puts up to `limit` consecutive records after `position` into `batch`, with the series that they
// use.
void FillBatch(const std::vector<FakeRecord>& records,
               int64_t position,
               int64_t limit,
               normlab::v1::RecordBatch* batch);

// The points that `request` asks for, a message for each series in the order of first use.
std::vector<normlab::v1::ReadMetricsResponse> SelectPoints(
    const std::vector<FakeRecord>& records, const normlab::v1::ReadMetricsRequest& request);

}  // namespace normlab::client
