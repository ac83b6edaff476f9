#include "server/api/delete_job.h"

#include <string>

#include "common/status_macros.h"
#include "server/api/job_transition.h"
#include "server/api/unary.h"
#include "server/api/wait_for_end.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/domain/states.h"
#include "server/domain/transitions.h"

#include <spdlog/spdlog.h>

namespace normlab::server {
namespace {

// Each of them keeps one of the handlers' threads waiting.
constexpr int kMaxForcedDeletions = 3;

// Waits for the end of a job that is being cancelled.
absl::Status WaitForJob(Backend& backend, const std::string& id) {
  return WaitForEnd(backend, id, JobName(id), [&]() -> absl::StatusOr<bool> {
    NORMLAB_ASSIGN_OR_RETURN(const v1::Job job, backend.store.GetJob(id));
    return IsTerminal(job.state());
  });
}

// Cancels a job that waits or runs, and waits until it has ended.
absl::Status EndByForce(Backend& backend, const std::string& id) {
  NORMLAB_ASSIGN_OR_RETURN(const v1::Job job, backend.store.GetJob(id));
  if (CheckDeletable(job, /*force=*/false).ok()) {
    return absl::OkStatus();
  }
  if (backend.forced_deletions.fetch_add(1) >= kMaxForcedDeletions) {
    backend.forced_deletions.fetch_sub(1);
    return Overloaded(kOverloadRetry);
  }
  absl::Status ended = ApplyTransition(backend, job.name(), &RequestCancel).status();
  // It may have ended by itself in between.
  if (ended.ok() || ReasonOf(ended) == reason::kJobTerminal) {
    ended = WaitForJob(backend, id);
  }
  backend.forced_deletions.fetch_sub(1);
  return ended;
}

}  // namespace

absl::StatusOr<google::protobuf::Empty> HandleDeleteJob(Backend& backend,
                                                        const Caller& /*caller*/,
                                                        const v1::DeleteJobRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string id, ParseJobName(request.name()));
  absl::Status deleted = request.force() ? EndByForce(backend, id) : absl::OkStatus();
  if (deleted.ok()) {
    deleted = backend.store.DeleteJobAndWait(id);
  }
  if (absl::IsNotFound(deleted) && request.allow_missing()) {
    return google::protobuf::Empty();
  }
  NORMLAB_RETURN_IF_ERROR(deleted);
  spdlog::info("{} deleted", JobName(id));
  return google::protobuf::Empty();
}

}  // namespace normlab::server
