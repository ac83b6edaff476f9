// Workers that connect and disconnect.
#include <utility>

#include "absl/strings/str_cat.h"

#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/domain/transitions.h"
#include "server/scheduler/attempt_secret.h"
#include "server/scheduler/controller_impl.h"
#include "server/scheduler/failures.h"

#include "spdlog/spdlog.h"

namespace normlab::server {
namespace {

constexpr int kProtocolVersion = 1;
constexpr absl::Duration kRetryAfter = absl::Seconds(1);

}  // namespace

void ControllerImpl::Connected(const v1::Hello& hello,
                               std::shared_ptr<WorkerSession> session,
                               WelcomeCallback done) {
  auto callback = std::make_shared<WelcomeCallback>(std::move(done));
  const bool posted =
      mailbox_->Post([this, hello, session = std::move(session), callback]() mutable {
        OnConnected(hello, std::move(session), std::move(*callback));
      });
  if (!posted) {
    std::move (*callback)(ShuttingDown(kRetryAfter));
  }
}

absl::Status ControllerImpl::CheckHello(const v1::Hello& hello, const AttemptKey& key) {
  if (hello.protocol_version() != kProtocolVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the worker speaks protocol version ", hello.protocol_version(), ", this server ",
        kProtocolVersion, "; install normlabd and normlab-worker of the same version"));
  }
  const LiveAttempt* attempt = Find(key);
  std::string expected_sha256;
  if (attempt != nullptr) {
    expected_sha256 = attempt->secret_sha256;
  } else {
    const absl::StatusOr<AttemptSecrets> secrets = store_.GetAttemptSecrets(key);
    if (absl::IsNotFound(secrets.status())) {
      return UnauthenticatedWorker();
    }
    if (!secrets.ok()) {
      return ShuttingDown(kRetryAfter);
    }
    expected_sha256 = secrets->secret_sha256;
  }
  if (!SecretMatches(hello.secret(), expected_sha256)) {
    return UnauthenticatedWorker();
  }
  const bool may_connect = attempt != nullptr && (attempt->phase == Phase::kStarting ||
                                                  attempt->phase == Phase::kAdopting ||
                                                  attempt->phase == Phase::kRunning);
  if (!may_connect) {
    const JobResult job = store_.GetJob(key.job_id);
    return job.ok() ? AttemptSuperseded(*job, key.number) : ShuttingDown(kRetryAfter);
  }
  return absl::OkStatus();
}

void ControllerImpl::OnConnected(const v1::Hello& hello,
                                 std::shared_ptr<WorkerSession> session,
                                 WelcomeCallback done) {
  if (stopping_) {
    std::move(done)(ShuttingDown(kRetryAfter));
    return;
  }
  const absl::StatusOr<std::string> id = ParseJobName(hello.job(), "job");
  const AttemptKey key = {id.ok() ? *id : "", hello.attempt()};
  const absl::Status accepted = id.ok() ? CheckHello(hello, key) : UnauthenticatedWorker();
  if (!accepted.ok()) {
    spdlog::warn("refused a worker that says it is {} attempt {}: {}",
                 QuotedForMessage(hello.job()), hello.attempt(), std::string(accepted.message()));
    std::move(done)(accepted);
    return;
  }
  LiveAttempt& attempt = *Find(key);
  if (attempt.phase == Phase::kStarting) {
    ReleaseStarts();
  }
  if (attempt.session != nullptr) {
    attempt.session->Close(absl::UnavailableError("the worker has connected anew"));
  }
  if (attempt.waits_outside) {
    // It was faster than whoever looks.
    RunsOutside(attempt, absl::ZeroDuration());
  }
  attempt.session = session;
  attempt.said_hello = true;
  mute_in_a_row_ = 0;
  attempt.phase_deadline = absl::InfiniteDuration();
  auto callback = std::make_shared<WelcomeCallback>(std::move(done));
  // For one that reconnects this changes nothing, but its answer comes after everything that its
  // former session left with the store: so the last report read then is final.
  Update(
      key.job_id,
      [number = key.number, now = WallClock()](v1::Job& stored, std::vector<v1::Segment>& records) {
        return MarkRunning(stored, number, now, records);
      },
      std::nullopt,
      [this, key, session = std::move(session), callback](JobResult result) {
        OnMarkedRunning(key, session, std::move(result), std::move(*callback));
      });
}

void ControllerImpl::OnMarkedRunning(const AttemptKey& key,
                                     const std::shared_ptr<WorkerSession>& session,
                                     JobResult result,
                                     WelcomeCallback done) {
  LiveAttempt* attempt = Find(key);
  if (attempt == nullptr || attempt->session != session || stopping_) {
    std::move(done)(
        ShuttingDown(kRetryAfter));  // replaced or gone meanwhile; if it lives, it asks again
    return;
  }
  absl::StatusOr<AttemptSecrets> secrets =
      result.ok() ? store_.GetAttemptSecrets(key) : absl::StatusOr<AttemptSecrets>(result.status());
  const bool waits_for_hello =
      attempt->phase == Phase::kStarting || attempt->phase == Phase::kAdopting;
  if (!secrets.ok()) {
    spdlog::warn("{} attempt {} is not taken up: {}", JobName(key.job_id), key.number,
                 std::string(secrets.status().message()));
    attempt->session = nullptr;
    if (absl::IsDataLoss(secrets.status())) {
      Kill(*attempt, DamagedFailure(secrets.status()));
      std::move(done)(secrets.status());
      return;
    }
    if (waits_for_hello) {
      attempt->phase_deadline = Monotonic() + options_.hello_timeout;
    }
    if (attempt->phase == Phase::kDraining) {
      FinishExit(*attempt);
    }
    // The fence is final; anything else is the store's trouble and passes.
    std::move(done)(absl::IsFailedPrecondition(secrets.status()) ? secrets.status()
                                                                 : ShuttingDown(kRetryAfter));
    return;
  }
  if (!attempt->is_running) {
    attempt->is_running = true;
    spdlog::info("{} RUNNING: attempt {}", JobName(key.job_id), key.number);
    observer_.OnTransition(v1::Job::RUNNING, v1::FailureReason::FAILURE_REASON_UNSPECIFIED);
  }
  if (waits_for_hello) {
    attempt->phase = Phase::kRunning;
  }
  if (std::exchange(attempt->recovering, false)) {
    observer_.OnRecovered(Recovery::kReconnected);
  }
  session->Trains(attempt->job.resolved_spec().model().kind_case());
  v1::Welcome welcome;
  welcome.set_last_report(secrets->last_report);
  std::move(done)(std::move(welcome));
  attempt->pause_requested = result->has_pause_request_time();
  if (attempt->phase == Phase::kRunning &&
      (attempt->cancel_requested || result->has_cancel_request_time())) {
    attempt->cancel_requested = true;
    attempt->cancel_deadline =
        std::min(attempt->cancel_deadline, Monotonic() + options_.cancel_grace);
  }
  TellToStop(*attempt);
}

void ControllerImpl::OnDisconnected(const AttemptKey& key, const WorkerSession* session) {
  LiveAttempt* attempt = Find(key);
  if (attempt == nullptr || attempt->session.get() != session || stopping_) {
    return;
  }
  attempt->heard_at = Monotonic() - attempt->session->Silence();
  attempt->session = nullptr;
  if (attempt->phase == Phase::kDraining) {
    FinishExit(*attempt);
  }
}

}  // namespace normlab::server
