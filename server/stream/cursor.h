#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"

#include "server/store/store.h"

#include "normlab/v1/records.pb.h"

namespace normlab::server {

// One subscriber's position in a job's records: reads forward, each record exactly once and in
// order, and defines every series before its first use. Not thread-safe; reads block for disk. Does
// not own the store.
class Cursor {
 public:
  Cursor(Store& store, std::string job_id, int64_t after_sequence);

  // The next records, about `max_bytes` at most; nothing when it has caught up. NOT_FOUND;
  // OUT_OF_RANGE; INVALID_ARGUMENT: a negative start. The position stays where it was on an error.
  absl::StatusOr<std::optional<v1::RecordBatch>> Next(int64_t max_bytes);

  // Last record that Next returned, or where it started.
  int64_t sequence() const { return sequence_; }
  // The terminal record has been returned (or lay before the start): nothing will follow.
  bool finished() const { return finished_; }

 private:
  // Adds the definitions of series that `batch` uses and this cursor has not defined yet.
  absl::Status DefineSeries(v1::RecordBatch& batch);

  Store& store_;
  const std::string job_id_;
  int64_t sequence_;
  bool finished_ = false;
  absl::flat_hash_set<uint32_t> defined_series_;
  absl::flat_hash_map<uint32_t, std::string> series_names_;
};

}  // namespace normlab::server
