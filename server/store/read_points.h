#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

#include "server/store/connection.h"
#include "server/store/store.h"

namespace normlab::server {

struct SequenceRange {
  int64_t after = 0;
  int64_t until = 0;  // inclusive
};
struct StepSpan {
  int64_t from = 0;
  int64_t to = 0;  // inclusive
};

// Store::ReadPoints of the job with this key; `sequences.until` must be committed. Inside a read
// transaction. May throw SQLite::Exception; DATA_LOSS.
absl::StatusOr<PointSlice> ReadPointSlice(Connection& connection,
                                          int64_t job_key,
                                          const SequenceRange& sequences,
                                          const std::vector<uint32_t>& series,
                                          const StepSpan& steps,
                                          int64_t max_bytes);

}  // namespace normlab::server
