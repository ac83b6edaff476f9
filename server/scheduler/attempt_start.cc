// From the policy's decision to a running process.
#include <algorithm>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/ids.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "server/domain/names.h"
#include "server/domain/transitions.h"
#include "server/scheduler/controller_impl.h"
#include "server/scheduler/failures.h"
#include "server/scheduler/job_data.h"
#include "server/scheduler/work_folder.h"

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

// While what a job needs to go on cannot be read.
constexpr absl::Duration kFirstPostponement = absl::Seconds(1);
constexpr absl::Duration kLongestPostponement = absl::Minutes(5);
constexpr int kMostDoublings = 9;

// Whether the folder is there. UNAVAILABLE: that cannot be told now.
absl::StatusOr<bool> FolderExists(const std::string& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    return false;
  }
  if (error) {
    return absl::UnavailableError(absl::StrCat("cannot look at ", path, ": ", error.message()));
  }
  return std::filesystem::is_directory(status);
}

absl::Status MakeFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    return absl::UnavailableError(
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
  if (absl::IsDataLoss(job.status())) {
    waiting_.erase(found);
    must_schedule_ = true;
    FailDamagedJob(start.id, job.status());
    return;
  }
  if (!job.ok()) {
    spdlog::warn("cannot read {} to start it: {}", JobName(start.id),
                 std::string(job.status().message()));
    Postpone(waiting, job.status().message());
    return;
  }
  if (job->state() != v1::Job::QUEUED) {
    waiting_.erase(found);
    must_schedule_ = true;  // somebody else's turn
    return;
  }
  const absl::StatusOr<StartingPoint> from = FindStartingPoint(start.id, *job);
  if (absl::IsDataLoss(from.status())) {
    waiting_.erase(found);
    must_schedule_ = true;
    FailDamagedJob(start.id, from.status());
    return;
  }
  if (!from.ok()) {
    // Starting from the beginning would throw away what the checkpoint saves.
    spdlog::warn("{} is not started yet: its last checkpoint cannot be found out: {}",
                 JobName(start.id), std::string(from.status().message()));
    Postpone(waiting, from.status().message());
    return;
  }
  if (const absl::Status room = CheckRoomFor(*job); !room.ok()) {
    spdlog::warn("{} is not started yet: {}", JobName(start.id), std::string(room.message()));
    Postpone(waiting, room.message());
    return;
  }
  waiting_.erase(found);

  auto owned = std::make_unique<LiveAttempt>();
  LiveAttempt& attempt = *owned;
  attempt.key = {start.id, job->attempts().empty() ? 1 : job->attempts().rbegin()->number() + 1};
  attempt.reservation = {start.cores, start.memory_bytes, job->owner()};
  attempt.secret = common::RandomBytes(kSecretBytes);
  attempt.secret_sha256 = common::Sha256Bytes(attempt.secret);
  attempt.postponed = waiting.postponed;
  attempt.data_failures = waiting.data_failures;
  if (!capabilities_.may_wait) {
    attempt.held_since = Monotonic();
  }
  AddLive(std::move(owned), Monotonic());

  attempt.resume_folder = from->folder;

  AttemptSecrets secrets;
  secrets.secret_sha256 = attempt.secret_sha256;
  // The row is durable before the spawn: a server that dies in between finds an attempt without a
  // process, never a process without an attempt.
  Update(
      start.id,
      [start, placement = capabilities_.places ? capabilities_.name : std::string(),
       number = attempt.key.number, start_step = from->step, lost_checkpoint = from->warning,
       waited = waiting.queued.waited + Monotonic() - waiting.queued.queued_since,
       now = WallClock()](v1::Job& stored, std::vector<v1::Segment>& records) {
        if (absl::Status begun = BeginAttempt(stored, start.cores, start.memory_bytes, start_step,
                                              now, records, placement);
            !begun.ok()) {
          return begun;
        }
        // Measured here, whatever the wall clock did meanwhile.
        stored.set_waited_seconds(absl::ToDoubleSeconds(waited));
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

absl::StatusOr<ControllerImpl::StartingPoint> ControllerImpl::FindStartingPoint(
    const std::string& job_id, const v1::Job& job) {
  StartingPoint from;
  const LastCheckpoint last = FindLastCheckpoint(job);
  if (last.step == 0) {
    return from;
  }
  // A work folder that is not mounted has lost nothing.
  const std::string jobs = absl::StrCat(options_.work_dir, "/jobs");
  NORMLAB_ASSIGN_OR_RETURN(const bool is_there, FolderExists(jobs));
  if (!is_there) {
    return absl::UnavailableError(
        absl::StrCat("there is no folder ", jobs, "; is the work folder mounted?"));
  }
  // The newest one that there is: those of earlier attempts are removed when a later one has one.
  for (auto attempt = job.attempts().rbegin(); attempt != job.attempts().rend(); ++attempt) {
    if (attempt->checkpoint_step() == 0) {
      continue;
    }
    const absl::StatusOr<AttemptSecrets> writer =
        store_.GetAttemptSecrets({job_id, attempt->number()});
    if (absl::IsNotFound(writer.status())) {
      return absl::DataLossError(absl::StrCat("attempt ", attempt->number(), " has no row"));
    }
    NORMLAB_RETURN_IF_ERROR(writer.status());
    if (writer->checkpoint_folder.empty()) {
      continue;
    }
    NORMLAB_ASSIGN_OR_RETURN(
        const bool exists,
        FolderExists(absl::StrCat(options_.work_dir, "/", writer->checkpoint_folder)));
    if (exists) {
      from.folder = writer->checkpoint_folder;
      from.step = attempt->checkpoint_step();
      break;
    }
  }
  if (from.step != last.step) {
    from.warning = absl::StrCat("the checkpoint at step ", last.step,
                                " is not in the work folder any more; starting from ",
                                from.step == 0 ? std::string("the beginning")
                                               : absl::StrCat("the one at step ", from.step));
  }
  return from;
}

void ControllerImpl::Postpone(WaitingJob waiting, absl::string_view why) {
  waiting.postponed_for = std::string(why);
  const int doublings = std::min(waiting.postponed++, kMostDoublings);
  waiting.not_before =
      Monotonic() + std::min(kFirstPostponement * (1 << doublings), kLongestPostponement);
  next_delay_ = std::min(next_delay_, waiting.not_before);
  // Others may have been passed over by it.
  must_schedule_ = true;
  std::string id = waiting.queued.id;
  waiting_.insert_or_assign(std::move(id), std::move(waiting));
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
    } else if (absl::IsDataLoss(result.status())) {
      FailDamagedJob(key.job_id, result.status());
    } else {
      spdlog::warn("cannot start {}: {}; trying again", JobName(key.job_id),
                   std::string(result.status().message()));
      Postpone(waiting, result.status().message());
    }
    return;
  }
  attempt->job = *std::move(result);
  spdlog::info("{} STARTING: attempt {} {}", attempt->job.name(), key.number,
               capabilities_.places
                   ? absl::StrCat("in ", capabilities_.name)
                   : absl::StrCat("on cores ", absl::StrJoin(attempt->reservation.cores, ",")));
  observer_.OnTransition(v1::Job::STARTING, v1::FailureReason::FAILURE_REASON_UNSPECIFIED);
  observer_.OnQueueWait(absl::ToDoubleSeconds(Monotonic() - waiting.queued.queued_since));
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
  Prepare(*attempt);
}

void ControllerImpl::Prepare(LiveAttempt& attempt) {
  attempt.phase = Phase::kPreparing;
  ++attempt.preparations;
  // The data may have changed since the job was accepted. Only the helper finds out which files they
  // are now, and may hang on a disk that is gone; on files that have not changed it remembers its
  // verdict, so this costs next to nothing.
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
  if (absl::IsResourceExhausted(response.status())) {
    // Not even the helper can be started.
    OnMachineFailed(response.status());
    TakeBack(*attempt, response.status());
    return;
  }
  if (absl::IsDeadlineExceeded(response.status())) {
    // A slow disk, or one that is gone for a while.
    OnDataNotReady(*attempt, absl::UnavailableError(DataFailure(response.status()).message()));
    return;
  }
  if (!response.ok() && attempt->preparations < kMostPreparations) {
    // Not the job's fault, as far as is known: the helper looks at other jobs' data too.
    spdlog::warn("{} attempt {}: the data could not be looked at: {}; trying again",
                 attempt->job.name(), key.number, std::string(response.status().message()));
    attempt->phase_deadline = Monotonic() + kPreparationDelay;
    return;
  }
  if (!response.ok()) {
    Lose(*attempt, DataFailure(response.status()));
  } else if (!response->data().violations().empty() && !response->data().lasting()) {
    // It was there when the job was accepted, and may come back: a disk that is not mounted, or full.
    TakeBack(*attempt, absl::UnavailableError(DataFailure(response->data()).message()));
  } else if (!response->data().violations().empty() || response->data().data_cache().empty()) {
    Lose(*attempt, DataFailure(response->data()));
  } else {
    CorrectDataOf(*attempt, response->data());
    Launch(*attempt, response->data().data_cache());
  }
}

void ControllerImpl::CorrectDataOf(LiveAttempt& attempt, const v1::DataReport& report) {
  // One that goes on from a checkpoint compares the contents, and fails when they are others.
  if (!attempt.resume_folder.empty()) {
    return;
  }
  const std::string warning = CorrectData(report, attempt.job);
  if (warning.empty()) {
    return;
  }
  spdlog::warn("{}: {}", attempt.job.name(), warning);
  Update(
      attempt.key.job_id,
      [number = attempt.key.number, report, now = WallClock()](v1::Job& stored,
                                                               std::vector<v1::Segment>& records) {
        if (!IsCurrentAttempt(stored, number)) {
          return absl::FailedPreconditionError("the attempt is over");
        }
        if (const std::string text = CorrectData(report, stored); !text.empty()) {
          records.push_back(LogRecord(v1::LogLine::WARNING, text, number, now));
        }
        return absl::OkStatus();
      },
      std::nullopt,
      [name = attempt.job.name()](const JobResult& result) {
        if (!result.ok()) {
          spdlog::warn("the change of the data of {} was not recorded: {}", name,
                       std::string(result.status().message()));
        }
      });
}

void ControllerImpl::Launch(LiveAttempt& attempt, const std::string& data_cache) {
  const std::string folder = AttemptPath(attempt.key);
  SubmitRequest request;
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
  if (options_.pin && !capabilities_.places) {
    assignment.mutable_cores()->Add(attempt.reservation.cores.begin(),
                                    attempt.reservation.cores.end());
  }
  assignment.set_memory_estimate_bytes(attempt.reservation.memory_bytes);
  if (kLimitMemory) {
    assignment.set_memory_limit_bytes(MemoryLimit(attempt.reservation.memory_bytes));
  }
  assignment.set_orphan_timeout_ms(absl::ToInt64Milliseconds(options_.orphan_timeout));

  // Preparing it may have taken long.
  absl::Status ready = CheckRoom(start_options_.least_free_bytes);
  if (ready.ok()) {
    ready = MakeFolder(folder);
  }
  if (!ready.ok()) {
    // No job's fault: those of the whole queue would fail one after the other.
    OnMachineFailed(ready);
    TakeBack(attempt, ready);
    return;
  }
  request.group = attempt.job.experiment();
  attempt.has_process = true;
  attempt.submitting = true;
  attempt.data_cache = data_cache;
  attempt.waits_outside = capabilities_.may_wait;
  attempt.place_known = !capabilities_.may_wait;
  attempt.phase = Phase::kStarting;
  attempt.phase_deadline = absl::InfiniteDuration();
  executor_.Submit(std::move(request), [this, mailbox = mailbox_, key = attempt.key,
                                        thread = std::this_thread::get_id()](
                                           absl::StatusOr<std::string> identity) mutable {
    if (std::this_thread::get_id() == thread) {
      OnSubmitted(key, std::move(identity));
      return;
    }
    mailbox->Post([this, key, identity = std::move(identity)]() mutable {
      OnSubmitted(key, std::move(identity));
    });
  });
}

}  // namespace normlab::server
