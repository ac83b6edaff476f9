#include "engine/worker/worker_sink.h"

#include <filesystem>
#include <string>
#include <utility>

namespace normlab::engine {

std::string CheckpointFolderForServer(const std::string& attempt_folder,
                                      const std::string& folder) {
  const std::filesystem::path attempt =
      std::filesystem::path(attempt_folder + "/").lexically_normal().parent_path();
  const std::filesystem::path work_folder = attempt.parent_path().parent_path().parent_path();
  // Appending an absolute path replaces what was there.
  return (attempt / folder).lexically_normal().lexically_relative(work_folder).string();
}

WorkerSink::WorkerSink(Outbox& outbox, const ReportChannel& channel, std::string attempt_folder)
    : outbox_(outbox), channel_(channel), attempt_folder_(std::move(attempt_folder)) {}

void WorkerSink::OnStep(const StepRecord& record) {
  const bool taken =
      outbox_.Step({.step = record.step,
                    .elapsed_us = record.elapsed_us,
                    .step_seconds = record.step_seconds,
                    .examples = static_cast<uint32_t>(record.examples)},
                   record.values.size(), [&record](size_t i) { return record.values[i]; });
  dropped_ = dropped_ || !taken;
}

void WorkerSink::OnCheckpoint(const CheckpointRecord& checkpoint) {
  if (dropped_) {
    // An attempt that went on from it would leave out the points that were not sent.
    return;
  }
  v1::CheckpointAnnouncement announcement;
  announcement.set_step(checkpoint.step);
  announcement.set_folder(CheckpointFolderForServer(attempt_folder_, checkpoint.folder));
  announcement.set_manifest_sha256(checkpoint.manifest_sha256);
  announcement.set_bytes(checkpoint.bytes);
  announcement.set_seconds(checkpoint.seconds);
  const std::string name = "checkpoint-" + std::to_string(checkpoint.step);
  for (const WrittenFile& file : checkpoint.files) {
    v1::ArtifactFile& announced = *announcement.add_files();
    announced.set_path(announcement.folder() + "/" + file.name);
    announced.set_file_name(DownloadName(name, file.name));
    announced.set_bytes(file.bytes);
    announced.set_sha256(file.sha256);
  }
  outbox_.Checkpoint(std::move(announcement));
}

void WorkerSink::OnLog(v1::LogLine::Severity severity, absl::string_view text) {
  outbox_.Log(severity, text);
}

int64_t WorkerSink::CommittedCheckpointStep() const {
  return channel_.committed_checkpoint_step();
}

}  // namespace normlab::engine
