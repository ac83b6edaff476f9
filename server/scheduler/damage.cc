// What to do about jobs that cannot go on because of what is stored, or was reported, of them.
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "server/domain/names.h"
#include "server/domain/transitions.h"
#include "server/scheduler/controller_impl.h"
#include "server/scheduler/failures.h"

#include "spdlog/spdlog.h"

namespace normlab::server {

void ControllerImpl::ReportRefused(const AttemptKey& attempt, const absl::Status& why) {
  mailbox_->Post([this, attempt, why] { OnReportRefused(attempt, why); });
}

void ControllerImpl::OnReportRefused(const AttemptKey& key, const absl::Status& why) {
  LiveAttempt* attempt = Find(key);
  if (attempt == nullptr || stopping_) {
    return;
  }
  v1::Failure failure = absl::IsDataLoss(why) ? DamagedFailure(why) : InvalidReportFailure(why);
  if (attempt->phase == Phase::kDraining) {
    attempt->failure = std::move(failure);  // its process is gone
    return;
  }
  Kill(*attempt, std::move(failure));
}

void ControllerImpl::FailDamagedJob(const std::string& job_id, const absl::Status& why) {
  spdlog::error("{} cannot go on: {}", JobName(job_id), std::string(why.message()));
  store_.FailDamaged(
      job_id, DamagedFailure(why), [mailbox = mailbox_, this, job_id](JobResult result) {
        mailbox->Post(
            [this, job_id, result = std::move(result)] { OnDamageStored(job_id, result); });
      });
}

void ControllerImpl::OnDamageStored(const std::string& job_id, const JobResult& result) {
  if (stopping_) {
    return;
  }
  if (result.ok()) {
    observer_.OnTransition(v1::Job::FAILED, v1::FailureReason::DATA_LOSS);
    return;
  }
  if (absl::IsDataLoss(result.status()) || absl::IsNotFound(result.status()) ||
      absl::IsFailedPrecondition(result.status())) {
    // Not even that can be written; or somebody ended it meanwhile.
    spdlog::error("the end of {} is not stored: {}", JobName(job_id),
                  std::string(result.status().message()));
    return;
  }
  // The disk is in trouble; afterwards it is read, and found damaged, once more.
  rechecks_[job_id] = Monotonic() + kStoreRetryDelay;
}

}  // namespace normlab::server
