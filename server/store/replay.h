#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "server/store/connection.h"
#include "server/store/report.h"

namespace normlab::server {

// How points that were reported again differ from the stored ones.
struct ReplayDifference {
  int64_t mismatches = 0;
  // The first one, for a person: "train/loss at step 120: stored 0.5, now 0.25". Empty: none.
  std::string first;
};

// Compares repeated points with the stored ones bit for bit; a point of which none is stored
// differs. Reads the chunks that hold these steps. May throw SQLite::Exception; DATA_LOSS.
absl::StatusOr<ReplayDifference> CompareReplay(Connection& connection,
                                               int64_t job_key,
                                               const std::vector<SeriesTail>& series,
                                               std::vector<RepeatedPoint> repeated);

// How many stored points from `start_step` on the attempt left out, of series in which it has come
// to something new. Reads the chunks that hold these steps. May throw SQLite::Exception; DATA_LOSS.
absl::StatusOr<int64_t> CountLeftOut(Connection& connection,
                                     int64_t job_key,
                                     int64_t start_step,
                                     const std::vector<CaughtUpSeries>& caught_up);

}  // namespace normlab::server
