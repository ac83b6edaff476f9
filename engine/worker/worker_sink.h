#pragma once

#include <string>

#include "engine/train/metric_sink.h"
#include "engine/worker/outbox.h"
#include "engine/worker/report_channel.h"

namespace normlab::engine {

// The folder of a checkpoint as the server knows it: relative to its work folder, in which an
// attempt's folder is jobs/<id>/attempt-<n>. `folder` may be absolute or relative to the attempt's
// folder.
std::string CheckpointFolderForServer(const std::string& attempt_folder, const std::string& folder);

// What the trainer says goes into the outbox. Owns neither outbox nor channel. For the training's
// thread only.
class WorkerSink final : public MetricSink {
 public:
  WorkerSink(Outbox& outbox, const ReportChannel& channel, std::string attempt_folder);

  // Waits while too much is unsent. After Outbox::Close the step is dropped: the process is about
  // to end.
  void OnStep(const StepRecord& record) override;
  // Announced only when every step before it was taken.
  void OnCheckpoint(const CheckpointRecord& checkpoint) override;
  void OnLog(v1::LogLine::Severity severity, absl::string_view text) override;
  int64_t CommittedCheckpointStep() const override;

  // A step was dropped: what the server has is incomplete, so there must be no outcome, and no
  // checkpoint from then on.
  bool dropped() const { return dropped_; }

 private:
  Outbox& outbox_;
  const ReportChannel& channel_;
  const std::string attempt_folder_;
  bool dropped_ = false;
};

}  // namespace normlab::engine
