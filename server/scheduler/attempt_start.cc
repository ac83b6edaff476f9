// From the policy's decision to a running process.
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/ids.h"
#include "common/sha256.h"
#include "server/domain/names.h"
#include "server/domain/transitions.h"
#include "server/scheduler/controller_impl.h"
#include "server/scheduler/failures.h"

#include "spdlog/spdlog.h"

namespace normlab::server {
namespace {

constexpr size_t kSecretBytes = 32;
// A file that makes the helper crash every time does so only so often for one attempt.
constexpr int kMostPreparations = 5;
constexpr absl::Duration kPreparationDelay = absl::Seconds(1);

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kLimitMemory = false;  // sanitizers map terabytes that are never touched
#else
constexpr bool kLimitMemory = true;
#endif

absl::Status MakeFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    return absl::InternalError(
        absl::StrCat("cannot make the folder ", path, ": ", error.message()));
  }
  return absl::OkStatus();
}

}  // namespace

void ControllerImpl::Begin(const StartAction& start) {
  const auto found = waiting_.find(start.id);
  if (found == waiting_.end()) {
    return;
  }
  const WaitingJob waiting = found->second;
  const JobResult job = store_.GetJob(start.id);
  if (absl::IsNotFound(job.status())) {
    waiting_.erase(found);  // deleted
    must_schedule_ = true;
    return;
  }
  if (!job.ok()) {
    spdlog::warn("cannot read {} to start it: {}", JobName(start.id),
                 std::string(job.status().message()));
    Postpone(waiting);
    return;
  }
  waiting_.erase(found);
  if (job->state() != v1::Job::QUEUED) {
    must_schedule_ = true;  // somebody else's turn
    return;
  }

  auto owned = std::make_unique<LiveAttempt>();
  LiveAttempt& attempt = *owned;
  attempt.key = {start.id, job->attempts().empty() ? 1 : job->attempts().rbegin()->number() + 1};
  attempt.reservation = {start.cores, start.memory_bytes, job->owner()};
  attempt.secret = common::RandomBytes(kSecretBytes);
  attempt.secret_sha256 = common::Sha256Bytes(attempt.secret);
  AddLive(std::move(owned), Monotonic());

  int64_t start_step = 0;
  std::string lost_checkpoint;
  if (const LastCheckpoint last = FindLastCheckpoint(*job); last.step > 0) {
    const absl::StatusOr<AttemptSecrets> writer =
        store_.GetAttemptSecrets({start.id, last.attempt});
    std::error_code error;
    if (writer.ok() && !writer->checkpoint_folder.empty() &&
        std::filesystem::is_directory(
            absl::StrCat(options_.work_dir, "/", writer->checkpoint_folder), error)) {
      attempt.resume_folder = writer->checkpoint_folder;
      start_step = last.step;
    } else {
      lost_checkpoint =
          absl::StrCat("the checkpoint at step ", last.step,
                       " is not in the work folder any more; starting from the beginning");
    }
  }

  AttemptSecrets secrets;
  secrets.secret_sha256 = attempt.secret_sha256;
  // The row is durable before the spawn: a server that dies in between finds an attempt without a
  // process, never a process without an attempt.
  Update(
      start.id,
      [start, number = attempt.key.number, start_step, lost_checkpoint, now = WallClock()](
          v1::Job& stored, std::vector<v1::Segment>& records) {
        if (absl::Status begun =
                BeginAttempt(stored, start.cores, start.memory_bytes, start_step, now, records);
            !begun.ok()) {
          return begun;
        }
        if (stored.attempts().rbegin()->number() != number) {
          return absl::FailedPreconditionError("another attempt began in between");
        }
        if (!lost_checkpoint.empty()) {
          records.push_back(LogRecord(v1::LogLine::WARNING, lost_checkpoint, number, now));
        }
        return absl::OkStatus();
      },
      std::move(secrets),
      [this, key = attempt.key, waiting](JobResult result) {
        OnBegun(key, waiting, std::move(result));
      });
}

void ControllerImpl::OnBegun(const AttemptKey& key, const WaitingJob& waiting, JobResult result) {
  LiveAttempt* attempt = Find(key);
  if (attempt == nullptr || stopping_) {
    return;
  }
  if (!result.ok()) {
    Remove(key);
    const bool refused =
        absl::IsFailedPrecondition(result.status()) || absl::IsNotFound(result.status());
    if (refused) {
      // Cancelled or paused in between, most likely.
      Refresh(key.job_id);
    } else {
      spdlog::warn("cannot start {}: {}; trying again", JobName(key.job_id),
                   std::string(result.status().message()));
      Postpone(waiting);
    }
    return;
  }
  attempt->job = *std::move(result);
  spdlog::info("{} STARTING: attempt {} on cores {}", attempt->job.name(), key.number,
               absl::StrJoin(attempt->reservation.cores, ","));
  observer_.OnTransition(v1::Job::STARTING, v1::FailureReason::FAILURE_REASON_UNSPECIFIED);
  observer_.OnQueueWait(std::max(absl::ToDoubleSeconds(WallClock() - waiting.queued_since), 0.0));
  if (attempt->cancel_requested || attempt->job.has_cancel_request_time()) {
    attempt->cancel_requested = true;
    Lose(*attempt, CancelledBeforeStartFailure());
    return;
  }
  if (attempt->job.has_pause_request_time()) {
    attempt->pause_requested = true;
  }
  if (attempt->pause_requested || draining_) {
    Lose(*attempt, draining_ ? DrainedBeforeStartFailure() : PausedBeforeStartFailure());
    return;
  }
  RemoveOldCheckpoints(*attempt);
  Prepare(*attempt);
}

void ControllerImpl::RemoveOldCheckpoints(const LiveAttempt& attempt) const {
  std::error_code error;
  for (int32_t number = 1; number < attempt.key.number; ++number) {
    const std::string folder = AttemptFolder(attempt.key.job_id, number);
    if (!absl::StartsWith(attempt.resume_folder, absl::StrCat(folder, "/"))) {
      // Best effort: what stays costs room only.
      std::filesystem::remove_all(absl::StrCat(options_.work_dir, "/", folder, "/checkpoints"),
                                  error);
    }
  }
}

void ControllerImpl::Prepare(LiveAttempt& attempt) {
  attempt.phase = Phase::kPreparing;
  ++attempt.preparations;
  // The data may have changed since the job was accepted. The helper remembers its verdict on files
  // that have not, so this costs next to nothing.
  v1::HelperRequest request;
  v1::InspectDataRequest& inspect = *request.mutable_inspect_data();
  *inspect.mutable_data() = attempt.job.resolved_spec().data();
  inspect.mutable_data_roots()->Add(options_.data_roots.begin(), options_.data_roots.end());
  inspect.set_cache_folder(options_.cache_dir);
  // A run that goes on from a checkpoint does not need the weights it began with.
  if (attempt.job.resolved_spec().has_initial_weights() && attempt.resume_folder.empty()) {
    *inspect.mutable_initial_weights() = attempt.job.resolved_spec().initial_weights();
  }
  helper_.Call(
      std::move(request), options_.data_timeout,
      [mailbox = mailbox_, this, key = attempt.key](absl::StatusOr<v1::HelperResponse> response) {
        mailbox->Post([this, key, response = std::move(response)]() mutable {
          OnPrepared(key, std::move(response));
        });
      });
}

void ControllerImpl::OnPrepared(const AttemptKey& key,
                                absl::StatusOr<v1::HelperResponse> response) {
  LiveAttempt* attempt = Find(key);
  if (attempt == nullptr || attempt->phase != Phase::kPreparing || stopping_) {
    return;  // cancelled meanwhile; or the next server finds an attempt that was never started
  }
  if (absl::IsUnavailable(response.status())) {
    // The helper was closed, so this server is about to end: that is not the data's fault. The
    // attempt stays as it is for the next server, which takes it up like any that it finds.
    return;
  }
  const bool helper_failed = !response.ok() && !absl::IsDeadlineExceeded(response.status());
  if (helper_failed && attempt->preparations < kMostPreparations) {
    // Not the job's fault, as far as is known: the helper looks at other jobs' data too.
    spdlog::warn("{} attempt {}: the data could not be looked at: {}; trying again",
                 attempt->job.name(), key.number, std::string(response.status().message()));
    attempt->phase_deadline = Monotonic() + kPreparationDelay;
    return;
  }
  if (!response.ok()) {
    Lose(*attempt, DataFailure(response.status()));
  } else if (!response->data().violations().empty() || response->data().data_cache().empty()) {
    Lose(*attempt, DataFailure(response->data()));
  } else {
    Launch(*attempt, response->data().data_cache());
  }
}

void ControllerImpl::Launch(LiveAttempt& attempt, const std::string& data_cache) {
  const std::string folder = AttemptPath(attempt.key);
  LaunchRequest request;
  request.attempt = attempt.key;
  request.log_path = LogPath(attempt.key);
  v1::WorkerAssignment& assignment = request.assignment;
  assignment.set_job(attempt.job.name());
  assignment.set_attempt(attempt.key.number);
  assignment.set_secret(std::exchange(attempt.secret, {}));
  assignment.set_server(options_.worker_target);
  *assignment.mutable_resolved_spec() = attempt.job.resolved_spec();
  assignment.set_data_cache(data_cache);
  assignment.set_attempt_folder(folder);
  if (!attempt.resume_folder.empty()) {
    assignment.set_resume_from(absl::StrCat(options_.work_dir, "/", attempt.resume_folder));
  }
  assignment.mutable_data_roots()->Add(options_.data_roots.begin(), options_.data_roots.end());
  if (options_.pin) {
    assignment.mutable_cores()->Add(attempt.reservation.cores.begin(),
                                    attempt.reservation.cores.end());
  }
  assignment.set_memory_estimate_bytes(attempt.reservation.memory_bytes);
  if (kLimitMemory) {
    assignment.set_memory_limit_bytes(MemoryLimit(attempt.reservation.memory_bytes));
  }
  assignment.set_orphan_timeout_ms(absl::ToInt64Milliseconds(options_.orphan_timeout));

  const absl::Status folder_made = MakeFolder(folder);
  const absl::StatusOr<std::string> identity =
      folder_made.ok() ? executor_.Launch(request) : absl::StatusOr<std::string>(folder_made);
  if (!identity.ok()) {
    Lose(attempt, LaunchFailure(identity.status()));
    return;
  }
  observer_.OnAttemptStarted();
  attempt.has_process = true;
  attempt.phase = Phase::kStarting;
  attempt.phase_deadline = Monotonic() + options_.hello_timeout;
  if (attempt.job.resolved_spec().has_time_limit()) {
    const google::protobuf::Duration& limit = attempt.job.resolved_spec().time_limit();
    attempt.time_limit_deadline =
        Monotonic() + absl::Seconds(limit.seconds()) + absl::Nanoseconds(limit.nanos());
  }
  // Written before any hello is looked at, and the store keeps the order: so this cannot overwrite
  // what a report has changed.
  AttemptSecrets secrets;
  secrets.secret_sha256 = attempt.secret_sha256;
  secrets.process_identity = *identity;
  Update(
      attempt.key.job_id,
      [number = attempt.key.number](v1::Job& stored, std::vector<v1::Segment>&) {
        return IsCurrentAttempt(stored, number)
                   ? absl::OkStatus()
                   : absl::FailedPreconditionError("the attempt is over");
      },
      std::move(secrets),
      [name = attempt.job.name()](const JobResult& result) {
        if (!result.ok()) {
          // Only a restart of the server would have needed it; the attempt then counts as lost with
          // the server.
          spdlog::warn("the process of {} was not recorded: {}", name,
                       std::string(result.status().message()));
        }
      });
}

}  // namespace normlab::server
