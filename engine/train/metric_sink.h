#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "engine/checkpoint/checkpoint.h"

#include "normlab/v1/records.pb.h"

namespace normlab::engine {

// One value of a step; `series` is a position in the trainer's series().
struct SeriesValue {
  uint32_t series = 0;
  double value = 0;
};

// What one step reports. Step t is the state before update t, counted from 0.
struct StepRecord {
  int64_t step = 0;
  // Valid during the call only. Not finite only in the last record of a diverged run, and in test
  // series.
  absl::Span<const SeriesValue> values;
  // Microseconds since Run began, when the step ended.
  int64_t elapsed_us = 0;
  // Of loading, forward, backward and update, without evaluation. [seconds]
  float step_seconds = 0;
  // Trained by this step. 0: no update belongs to this record (the last one, or a diverged step).
  int64_t examples = 0;
};

// A complete checkpoint on disk.
struct CheckpointRecord {
  int64_t step = 0;
  std::string folder;  // below the attempt's folder
  std::string manifest_sha256;
  int64_t bytes = 0;
  double seconds = 0;  // that writing it took
  std::vector<WrittenFile> files;
};

// Where a run's results go. All calls come from the thread that runs the trainer, in the order of
// the run; steps strictly increase, and a checkpoint of step n comes after every record of a step
// below n and before those from n on. Calls must not block except to hold the training back while
// too much is unsent, and OnStep should cost about a microsecond. Thread sentence of
// implementations: the trainer needs no thread safety.
class MetricSink {
 public:
  virtual ~MetricSink() = default;

  // Names of the series that records count in; before anything else.
  virtual void OnSeries(const std::vector<std::string>& /*names*/) {}
  virtual void OnStep(const StepRecord& record) = 0;
  virtual void OnCheckpoint(const CheckpointRecord& checkpoint) = 0;
  virtual void OnLog(v1::LogLine::Severity severity, absl::string_view text) = 0;

  // Step of the last announced checkpoint that the server has committed; -1: none yet. The trainer
  // never removes that one or a later one, because a new attempt may be told to start from it.
  virtual int64_t CommittedCheckpointStep() const = 0;
};

}  // namespace normlab::engine
