#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

#include "server/store/artifact_rows.h"
#include "server/store/connection.h"
#include "server/store/live_job.h"

#include "normlab/v1/records.pb.h"
#include "normlab/v1/worker.pb.h"

namespace normlab::server {

// A point that an attempt reported again after a resume.
struct RepeatedPoint {
  uint32_t series = 0;  // the job's id
  int64_t step = 0;
  double value = 0;
};

// A series in which a resumed attempt came to its first new point.
struct CaughtUpSeries {
  uint32_t series = 0;       // the job's id
  int64_t stored_until = 0;  // last step that was stored before
  int64_t repeated = 0;      // points up to there that the attempt reported again
};

// What is new in a report, in its order and in the job's series ids.
struct IngestedReport {
  std::vector<v1::Segment> records;
  std::vector<RepeatedPoint> repeated;
  std::vector<CaughtUpSeries> caught_up;
  int64_t points = 0;  // new ones
};

inline constexpr size_t kMaxSeriesPerJob = 100'000;

// Checks a report's form, and that what it names on disk is the attempt's own: INVALID_ARGUMENT
// (INVALID_REPORT) says what breaks the protocol. Numbers that no run can have are refused too: sums
// over them would fail in the database, and look like trouble with its disk.
absl::Status CheckReport(const AttemptKey& attempt, const v1::WorkerReport& report);

// Takes a report of live.attempt (loaded) apart: defines its series, moves the series' tails on,
// and separates points that are new, by step, from repeated ones. A step of which only some series
// are new is a record of those series; one of which none is, is none. Changes `live` only, which
// must be forgotten on an error. INVALID_ARGUMENT.
absl::Status IngestSegments(const v1::WorkerReport& report,
                            absl::Time now,
                            LiveJob& live,
                            IngestedReport& out);

}  // namespace normlab::server
