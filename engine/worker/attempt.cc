#include "engine/worker/attempt.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <map>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/clock.h"
#include "common/worker_exit.h"
#include "engine/dnnl/runtime.h"
#include "engine/train/failure.h"
#include "engine/train/rank_team.h"
#include "engine/worker/process_setup.h"
#include "engine/worker/report_builder.h"
#include "engine/worker/worker_sink.h"

#include "spdlog/spdlog.h"

namespace normlab::engine {
namespace {

constexpr int32_t kProtocolVersion = 1;
constexpr double kMiB = 1 << 20;
// 1 MiB of steps: some seconds of the fastest training.
constexpr size_t kRingWords = size_t{1} << 17;
constexpr absl::Duration kDefaultOrphanTimeout = absl::Hours(24);
constexpr absl::Duration kFolderCheckInterval = absl::Seconds(1);
// How often a worker that only waits for the server looks for SIGTERM.
constexpr absl::Duration kDeliveryCheckInterval = absl::Milliseconds(100);

v1::Failure InternalFailure(absl::string_view what) {
  v1::Failure failure;
  failure.set_reason(v1::FailureReason::INTERNAL);
  failure.set_message(absl::StrCat("the training ended with an unexpected error: ", what,
                                   "; this is a bug, please report it"));
  return failure;
}

// Why a run ended with a checkpoint, which a later attempt continues.
v1::Failure StoppedFailure(v1::FailureReason::Kind reason) {
  v1::Failure failure;
  failure.set_reason(reason);
  failure.set_message(absl::StrCat(
      "the run ended after a checkpoint, as ",
      reason == v1::FailureReason::PREEMPTED
          ? "whatever runs it asked by a signal (its time limit is near, or its machine is wanted "
            "for something else)"
          : "the server asked",
      "; it goes on from there when the job is started again"));
  return failure;
}

// Of the ranks that do not report.
class NullSink final : public MetricSink {
 public:
  void OnStep(const StepRecord& /*record*/) override {}
  void OnCheckpoint(const CheckpointRecord& /*checkpoint*/) override {}
  void OnLog(v1::LogLine::Severity /*severity*/, absl::string_view /*text*/) override {}
  int64_t CommittedCheckpointStep() const override { return -1; }
};

// How often each implementation is used, the most frequent first: "brg:avx512_core 6, normlab:loop
// 2". The job's result has them by layer and pass.
std::string ShortForm(const std::vector<ImplementationChoice>& choices) {
  std::map<std::string, int> counts;
  for (const ImplementationChoice& choice : choices) {
    ++counts[choice.implementation];
  }
  std::vector<std::pair<std::string, int>> sorted(counts.begin(), counts.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return absl::StrJoin(sorted, ", ", absl::PairFormatter(" "));
}

// Without unwinding: other threads may be anywhere, in a write of a checkpoint that is not wanted
// any more, too.
[[noreturn]] void ExitAtOnce(int code, absl::string_view why) {
  spdlog::error("{}; exiting with code {}", std::string(why), code);
  spdlog::default_logger()->flush();
  std::quick_exit(code);
}

}  // namespace

v1::Failure OutOfMemoryFailure(const v1::WorkerAssignment& assignment) {
  const auto mebibytes = [](int64_t bytes) {
    return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / kMiB);
  };
  v1::Failure failure;
  failure.set_reason(v1::FailureReason::OUT_OF_MEMORY);
  failure.set_message(absl::StrCat("the training ran out of memory: its estimate was ",
                                   mebibytes(assignment.memory_estimate_bytes()), ", its limit ",
                                   assignment.memory_limit_bytes() > 0
                                       ? mebibytes(assignment.memory_limit_bytes())
                                       : "the machine's memory",
                                   ". Use a smaller batch_size, evaluation.batch_size or model"));
  return failure;
}

AttemptRunner::AttemptRunner(v1::WorkerAssignment assignment,
                             FolderWatch folder,
                             Wishes wishes,
                             std::string server_ca,
                             Communicator* communicator)
    : assignment_(std::move(assignment)),
      folder_(std::move(folder)),
      terminating_(std::move(wishes.terminating)),
      leaving_(std::move(wishes.leaving)),
      server_ca_(std::move(server_ca)),
      communicator_(communicator),
      cores_(CoreSet(std::vector<int>(assignment_.cores().begin(), assignment_.cores().end()))) {}

int AttemptRunner::Run() {
  const std::optional<v1::Failure> failure = Prepare();
  if (terminating_()) {
    return common::kExitTerminated;
  }
  if (data_unusable_) {
    return common::kExitDataUnusable;
  }
  return communicator_ == nullptr || communicator_->rank() == 0 ? RunAndReport(failure)
                                                                : RunSilently(failure);
}

int AttemptRunner::RunSilently(const std::optional<v1::Failure>& failure) {
  if (!failure.has_value()) {
    NullSink sink;
    Train(sink);
  }
  trainer_.reset();
  return out_of_step_ ? common::kExitOutOfMemory : common::kExitDone;
}

int AttemptRunner::RunAndReport(const std::optional<v1::Failure>& failure) {
  Outbox outbox(kRingWords);
  std::optional<ReportChannel> channel;
  std::optional<Reporter> reporter;
  {
    // Threads inherit the affinity of the one that starts them, and this one may by now be bound to
    // a single core. What only sends reports goes wherever there is room.
    const AffinityScope all_cores(cores_);
    channel.emplace(ChannelOptions(outbox));
    reporter.emplace(
        outbox,
        ReportBuilder(trainer_ != nullptr ? trainer_->series() : std::vector<std::string>(),
                      Sizes(), assignment_.attempt()),
        *channel, MakeReporterOptions(outbox));
  }
  v1::Outcome outcome;
  bool incomplete = false;
  if (failure.has_value()) {
    outcome.set_state(v1::Job::FAILED);
    *outcome.mutable_failure() = *failure;
  } else {
    Announce(outbox);
    WorkerSink sink(outbox, *channel, assignment_.attempt_folder());
    outcome = Train(sink);
    incomplete = sink.dropped();
  }
  trainer_.reset();
  // The last steps may have been refused although the training came to its end.
  if (incomplete || (terminating_() && outcome.state() == v1::Job::CANCELLED)) {
    return common::kExitTerminated;
  }
  spdlog::info("the attempt ends as {}{}", v1::Job::State_Name(outcome.state()),
               outcome.has_failure() ? ": " + outcome.failure().message() : "");
  for (v1::ArtifactFile& file : *outcome.mutable_files()) {
    file.set_path(CheckpointFolderForServer(assignment_.attempt_folder(), file.path()));
  }
  outbox.Finish(std::move(outcome));
  while (!reporter->WaitUntilDelivered(kDeliveryCheckInterval)) {
    if (terminating_()) {
      return common::kExitTerminated;
    }
  }
  return out_of_step_ ? common::kExitOutOfMemory : common::kExitDone;
}

std::optional<v1::Failure> AttemptRunner::Prepare() {
  std::optional<v1::Failure> failure;
  try {
    failure = TryPrepare();
  } catch (const std::bad_alloc&) {
    failure = OutOfMemoryFailure(assignment_);
    out_of_step_ = communicator_ != nullptr;
  } catch (const std::exception& error) {
    failure = InternalFailure(error.what());
    out_of_step_ = communicator_ != nullptr;
  }
  if (failure.has_value()) {
    // Before anything else needs memory.
    trainer_.reset();
    if (failure->reason() == v1::FailureReason::OUT_OF_MEMORY) {
      failure = OutOfMemoryFailure(assignment_);
    }
  }
  return failure;
}

std::optional<v1::Failure> AttemptRunner::TryPrepare() {
  absl::StatusOr<MappedDataset> data = MappedDataset::Open(assignment_.data_cache());
  RankTeam team(communicator_, /*state_floats=*/0);
  if (const absl::Status opened =
          team.AgreeOn(WithReason(data.status(), v1::FailureReason::DATA_ERROR));
      !opened.ok()) {
    // A cache, which the server has made again when it is gone: the source may be in order.
    data_unusable_ = true;
    spdlog::error("{}", std::string(opened.message()));
    if (absl::IsDataLoss(data.status())) {
      unlink(assignment_.data_cache().c_str());
    }
    return ToFailure(opened);
  }
  data_.emplace(*std::move(data));
  absl::StatusOr<std::unique_ptr<Trainer>> trainer = Trainer::Plan(
      assignment_.resolved_spec(), *data_,
      {.attempt_folder = assignment_.attempt_folder(),
       .resume_folder = assignment_.resume_from(),
       .data_roots = {assignment_.data_roots().begin(), assignment_.data_roots().end()},
       .give_up = terminating_,
       .communicator = communicator_});
  if (!trainer.ok()) {
    return ToFailure(trainer.status());
  }
  trainer_ = *std::move(trainer);
  return std::nullopt;
}

RunSizes AttemptRunner::Sizes() const {
  if (trainer_ == nullptr) {
    return {};
  }
  return {.start_step = trainer_->plan().start_step(),
          .total_steps = trainer_->plan().total_steps(),
          .total_epochs = trainer_->plan().total_epochs(),
          .steps_per_epoch = std::max<int64_t>(trainer_->length().steps_per_epoch, 1),
          .latest_metrics = trainer_->resumed_metrics()};
}

ReportChannelOptions AttemptRunner::ChannelOptions(Outbox& outbox) {
  ReportChannelOptions options;
  options.target = assignment_.server();
  options.server_ca = server_ca_;
  options.hello.set_protocol_version(kProtocolVersion);
  options.hello.set_job(assignment_.job());
  options.hello.set_attempt(assignment_.attempt());
  options.hello.set_secret(assignment_.secret());
  v1::WorkerPlan& plan = *options.hello.mutable_plan();
  if (trainer_ != nullptr) {
    plan = trainer_->plan();
  }
  options.orphan_timeout = assignment_.orphan_timeout_ms() > 0
                               ? absl::Milliseconds(assignment_.orphan_timeout_ms())
                               : kDefaultOrphanTimeout;
  options.on_stop = [this](const v1::StopRequest& request) {
    switch (request.kind()) {
      case v1::StopRequest::CANCEL:
        stop_.request_stop();
        return;
      case v1::StopRequest::CHECKPOINT:
        if (request.reason() != v1::FailureReason::FAILURE_REASON_UNSPECIFIED) {
          stop_reason_.store(request.reason());
        }
        checkpoint_.request_stop();
        stop_.request_stop();
        return;
      default:
        return;  // of a later protocol version
    }
  };
  options.on_audience = [&outbox](bool watching) { outbox.SetWatched(watching); };
  options.on_disconnect = [](const absl::Status& status) {
    spdlog::warn("no connection to the server, trying again: {}", status.ToString());
  };
  options.on_end = [](ChannelState state, const absl::Status& status) {
    if (state == ChannelState::kFenced) {
      ExitAtOnce(common::kExitFenced,
                 absl::StrCat("the server does not want this attempt: ", status.ToString()));
    }
    ExitAtOnce(common::kExitOrphaned, absl::StrCat("no server for too long: ", status.ToString()));
  };
  return options;
}

ReporterOptions AttemptRunner::MakeReporterOptions(Outbox& outbox) {
  ReporterOptions options;
  options.on_tick = [this, &outbox, next_check = absl::ZeroDuration()]() mutable {
    if (terminating_()) {
      stop_.request_stop();
      outbox.Close();  // the training may be waiting for room
    } else if (leaving_ != nullptr && leaving_() && !checkpoint_.stop_requested()) {
      spdlog::info("asked by a signal to leave: writing a checkpoint");
      stop_reason_.store(v1::FailureReason::PREEMPTED);
      checkpoint_.request_stop();
      stop_.request_stop();
    }
    const absl::Duration now = common::Clock::Real().Monotonic();
    if (now >= next_check) {
      next_check = now + kFolderCheckInterval;
      if (folder_.IsGone()) {
        ExitAtOnce(common::kExitFenced,
                   absl::StrCat("the attempt's folder ", assignment_.attempt_folder(), " is gone"));
      }
    }
  };
  return options;
}

void AttemptRunner::Announce(Outbox& outbox) const {
  const v1::JobSpec& spec = assignment_.resolved_spec();
  const std::string text = absl::StrFormat(
      "attempt %d trains %d parameters from step %d to %d with batches of %d, on %s%d thread%s "
      "(core%s "
      "%s); oneDNN %s for %s; buffers of %.1f MiB; implementations: %s",
      assignment_.attempt(), trainer_->graph().parameter_count(), trainer_->plan().start_step(),
      trainer_->plan().total_steps(), spec.batch_size(),
      communicator_ == nullptr ? "" : absl::StrCat(communicator_->size(), " ranks of "),
      spec.threads(), spec.threads() == 1 ? "" : "s", assignment_.cores_size() == 1 ? "" : "s",
      assignment_.cores().empty() ? "any" : absl::StrJoin(assignment_.cores(), ","),
      OneDnnVersion(), CpuIsaName(), static_cast<double>(trainer_->planned_bytes()) / kMiB,
      ShortForm(trainer_->implementations()));
  spdlog::info(text);
  outbox.Log(v1::LogLine::INFO, text);
}

v1::Outcome AttemptRunner::Train(MetricSink& sink) {
  v1::Outcome outcome;
  try {
    outcome = trainer_->Run(sink, stop_.get_token(), checkpoint_.get_token());
    if (outcome.state() == v1::Job::PAUSED) {
      *outcome.mutable_failure() = StoppedFailure(stop_reason_.load());
    }
  } catch (const std::bad_alloc&) {
    out_of_step_ = communicator_ != nullptr;
    trainer_.reset();
    outcome.set_state(v1::Job::FAILED);
    *outcome.mutable_failure() = OutOfMemoryFailure(assignment_);
  } catch (const std::exception& error) {
    out_of_step_ = communicator_ != nullptr;
    outcome.set_state(v1::Job::FAILED);
    *outcome.mutable_failure() = InternalFailure(error.what());
  }
  if (outcome.failure().reason() == v1::FailureReason::OUT_OF_MEMORY) {
    *outcome.mutable_failure() = OutOfMemoryFailure(assignment_);
  }
  return outcome;
}

}  // namespace normlab::engine
