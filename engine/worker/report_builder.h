#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "engine/worker/metric_ring.h"

#include "normlab/v1/worker.pb.h"

namespace normlab::engine {

// Sizes of a run, for progress.
struct RunSizes {
  int64_t start_step = 0;
  int64_t total_steps = 0;
  int32_t total_epochs = 0;
  int64_t steps_per_epoch = 1;
  // Last values before the start, by series.
  std::map<std::string, double> latest_metrics;
};

// Copies `text`, replacing whatever is not UTF-8 by '?' (a proto string must be UTF-8 or the whole
// message is refused) and cutting it at `max_bytes` between characters.
std::string ToUtf8(absl::string_view text, size_t max_bytes = 16 << 10);

// Packs what a training run says into the messages of the worker protocol: consecutive steps with
// the same series become one columnar block; the table of series goes with the first report. Pure:
// no clock, no I/O. Not thread-safe; a value on its own.
class ReportBuilder {
 public:
  // Series ids are the positions in `series`, counted from 1 on the wire.
  ReportBuilder(std::vector<std::string> series, const RunSizes& sizes, int32_t attempt);

  void AddStep(const StepEntry& entry);
  void AddLog(v1::LogLine::Severity severity, absl::Time time, absl::string_view text);
  // Points added before it belong to steps before the checkpoint. The report is full with it.
  void AddCheckpoint(v1::CheckpointAnnouncement checkpoint);
  // The report is full with it; nothing may follow in later ones.
  void SetOutcome(v1::Outcome outcome);

  // Nothing was added since the last Take.
  bool empty() const { return empty_; }
  // Take should be called before more is added: about 256 KiB, or a checkpoint, or the outcome is
  // in it.
  bool full() const;

  // The report, without number; starts the next one.
  v1::WorkerReport Take();

 private:
  double ExamplesPerSecond() const;

  const std::vector<std::string> series_;
  const RunSizes sizes_;
  const int32_t attempt_;

  bool series_sent_ = false;
  bool empty_ = true;
  int64_t bytes_ = 0;  // about
  v1::WorkerReport report_;

  int64_t step_;  // updates done
  std::map<uint32_t, double> latest_;
  // (elapsed_us, examples until then) of the last second or so, oldest first, at most one per 20
  // ms.
  struct RateSample {
    int64_t elapsed_us = 0;
    int64_t examples = 0;
  };
  std::deque<RateSample> rate_samples_;
  RateSample now_;
};

}  // namespace normlab::engine
