#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

#include "normlab/v1/jobs.pb.h"
#include "normlab/v1/records.pb.h"

namespace normlab::client {

// The points of one step.
struct MetricRecord {
  int64_t sequence = 0;
  int64_t step = 0;
  int64_t elapsed_us = 0;                       // of training in its attempt; 0: unknown
  absl::Span<const std::string* const> series;  // names, in the order of values
  absl::Span<const double> values;
};

// What a watch hands on, in the order of sequences. A status that is not OK ends the watch with it.
// All methods are called on the thread that watches; arguments live during the call.
class RecordHandler {
 public:
  virtual ~RecordHandler() = default;
  virtual absl::Status OnMetrics(const MetricRecord& record) = 0;
  virtual absl::Status OnState(int64_t sequence, const normlab::v1::StateChange& change) = 0;
  virtual absl::Status OnLog(int64_t sequence, const normlab::v1::LogLine& line) = 0;
};

// Turns the batches of one job's stream into single records, and checks what the protocol promises:
// sequences without gap or repetition, values that fit their columns, series that are defined once.
// It outlives reconnections, so that the check covers them. Not thread-safe.
class RecordDecoder {
 public:
  explicit RecordDecoder(int64_t after_sequence) : last_sequence_(after_sequence) {}

  // Hands every record of `batch` to `handler`. INTERNAL: the batch breaks the protocol (records
  // before the breach were handed on); else what the handler returned.
  absl::Status Decode(const normlab::v1::RecordBatch& batch, RecordHandler& handler);

  // INTERNAL when the server claims to have sent records that never came.
  absl::Status Check(const normlab::v1::Heartbeat& heartbeat) const;

  // Of the last record handed on; the position to resume from.
  int64_t last_sequence() const { return last_sequence_; }
  // The terminal state, once its record was handed on; else STATE_UNSPECIFIED.
  normlab::v1::Job::State terminal_state() const { return terminal_state_; }

 private:
  absl::Status DefineSeries(const normlab::v1::RecordBatch& batch);
  absl::Status DecodeMetrics(const normlab::v1::MetricBlock& block, RecordHandler& handler);

  int64_t last_sequence_;
  normlab::v1::Job::State terminal_state_ = normlab::v1::Job::STATE_UNSPECIFIED;
  std::map<uint32_t, std::string> names_;  // by series id
  std::vector<const std::string*> columns_;
};

// Whether a job in `state` is over.
bool IsTerminal(normlab::v1::Job::State state);

}  // namespace normlab::client
