#pragma once

#include <string>
#include <vector>

#include "google/protobuf/timestamp.pb.h"

#include "client/cli/output.h"

#include "normlab/v1/job.pb.h"
#include "normlab/v1/records.pb.h"

namespace normlab::client {

// Jobs as text for people. All functions are thread-safe.

// The name of a state in its colour.
std::string PaintState(const Output& out, normlab::v1::Job::State state);

// "3 channels of 32x32 (bytes), 10 classes, 50000 training and 10000 test examples".
std::string DescribeData(const normlab::v1::DataSummary& data);

// Everything worth knowing about one job, in several lines.
std::string DescribeJob(const Output& out, const normlab::v1::Job& job);

// How a job ended, with its last metrics, and what to look at next.
std::string DescribeOutcome(const Output& out, const normlab::v1::Job& job);

// A table, a line for each job.
std::string JobTable(const Output& out,
                     const std::vector<normlab::v1::Job>& jobs,
                     bool with_header);

// 2026-01-31 12:00:00 in the local time zone; "-" when unset.
std::string FormatTimestamp(const google::protobuf::Timestamp& time);
// 12:00:00 in the local time zone.
std::string FormatClock(const google::protobuf::Timestamp& time);

// One log line, without line break.
std::string FormatLogLine(const Output& out, const normlab::v1::LogLine& line);

}  // namespace normlab::client
