// What a run writes: checkpoints and final weights, whatever the disk does.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "common/clock.h"
#include "common/status_macros.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/train/trainer.h"

namespace normlab::engine {
namespace {

constexpr int kKeptCheckpoints = 2;
constexpr char kCheckpointsFolder[] = "/checkpoints";
// Between looks for a stop while the disk is waited for.
constexpr absl::Duration kStopCheckInterval = absl::Milliseconds(100);

double Seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

absl::Status Trainer::WriteCheckpointOf(int64_t step, MetricSink& sink) {
  const TimePoint begin = std::chrono::steady_clock::now();
  const std::string parent = options_.attempt_folder + kCheckpointsFolder;
  const auto written = WriteCheckpoint(parent, CheckpointName(step), Contents(step));
  NORMLAB_RETURN_IF_ERROR(written.status());
  sink.OnCheckpoint({.step = step,
                     .folder = written->folder,
                     .manifest_sha256 = written->manifest_sha256,
                     .bytes = written->bytes,
                     .seconds = Seconds(std::chrono::steady_clock::now() - begin),
                     .files = written->files});
  last_checkpoint_step_ = step;
  // After the writing: a slow disk must not take all the time there is.
  last_checkpoint_time_ = options_.clock->Monotonic();
  // One that is announced but not known to be committed may become the one to start from.
  PruneCheckpoints(parent, kKeptCheckpoints, sink.CommittedCheckpointStep());
  return absl::OkStatus();
}

void Trainer::TryCheckpoint(int64_t step, MetricSink& sink) {
  if (!team_.leads()) {
    return;
  }
  const absl::Status written = WriteCheckpointOf(step, sink);
  if (written.ok()) {
    if (std::exchange(checkpoint_missed_, false)) {
      sink.OnLog(v1::LogLine::INFO, absl::StrCat("checkpoints can be written again: step ", step));
    }
    return;
  }
  // Once for all that fail in a row. Not even the first one is worth the training.
  if (!std::exchange(checkpoint_missed_, true)) {
    sink.OnLog(
        v1::LogLine::WARNING,
        absl::StrCat("the checkpoint at step ", step, " could not be written: ", written.message(),
                     "; the training goes on, and a checkpoint is tried again every ",
                     absl::FormatDuration(options_.write_retry),
                     ". Make room on the disk of the work folder, or mend it"));
  }
  checkpoint_retry_time_ = options_.clock->Monotonic() + options_.write_retry;
}

absl::Status Trainer::WriteWithPatience(const std::function<absl::Status()>& write,
                                        absl::string_view what,
                                        const std::stop_token& stop,
                                        MetricSink& sink) const {
  absl::Status written = write();
  if (written.ok()) {
    return written;
  }
  sink.OnLog(v1::LogLine::WARNING,
             absl::StrCat(what, " could not be written: ", written.message(),
                          "; the run waits, and tries it again every ",
                          absl::FormatDuration(options_.write_retry), " for at most ",
                          absl::FormatDuration(options_.write_patience),
                          ". Make room on the disk of the work folder, or mend it"));
  // What is waited for is the real world, whatever clock checkpoints are due by.
  const common::Clock& clock = common::Clock::Real();
  const absl::Duration deadline = clock.Monotonic() + options_.write_patience;
  while (!written.ok()) {
    const absl::Duration next = clock.Monotonic() + options_.write_retry;
    while (clock.Monotonic() < next) {
      if (stop.stop_requested() || (options_.give_up && options_.give_up())) {
        return written;
      }
      absl::SleepFor(std::min(kStopCheckInterval, next - clock.Monotonic()));
    }
    written = write();
    if (clock.Monotonic() >= deadline) {
      return written;
    }
  }
  sink.OnLog(v1::LogLine::INFO, absl::StrCat(what, " could be written in the end"));
  return written;
}

absl::Status Trainer::WriteFinal(MetricSink& sink, v1::Outcome& outcome) {
  const auto written =
      WriteCheckpoint(options_.attempt_folder, "final", Contents(plan_.total_steps()));
  NORMLAB_RETURN_IF_ERROR(written.status());
  sink.OnLog(v1::LogLine::INFO, absl::StrCat("final weights written to ", written->folder, " (",
                                             written->bytes, " bytes)"));
  for (const WrittenFile& file : written->files) {
    v1::ArtifactFile& announced = *outcome.add_files();
    announced.set_path(absl::StrCat(written->folder, "/", file.name));
    announced.set_file_name(DownloadName("final", file.name));
    announced.set_bytes(file.bytes);
    announced.set_sha256(file.sha256);
  }
  return absl::OkStatus();
}

}  // namespace normlab::engine
