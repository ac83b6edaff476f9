#include "server/api/cancel_job.h"

#include <memory>
#include <string>
#include <vector>

#include "common/status_macros.h"
#include "server/domain/names.h"
#include "server/domain/states.h"
#include "server/domain/transitions.h"

#include <spdlog/spdlog.h>

namespace normlab::server {

absl::StatusOr<v1::Job> HandleCancelJob(Backend& backend,
                                        const Caller& /*caller*/,
                                        const v1::CancelJobRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string id, ParseJobName(request.name()));
  // Written by the mutator on the store's thread, read after the commit.
  auto was_queued = std::make_shared<bool>(false);
  NORMLAB_ASSIGN_OR_RETURN(
      v1::Job job,
      backend.store.UpdateJobAndWait(id, [was_queued, clock = backend.options.clock](
                                             v1::Job& stored, std::vector<v1::Segment>& records) {
        *was_queued = stored.state() == v1::Job::QUEUED;
        return RequestCancel(stored, clock->Now(), records);
      }));
  if (*was_queued && job.state() == v1::Job::CANCELLED) {
    spdlog::info("{} CANCELLED: while it was queued", job.name());
    backend.observer.OnTransition(v1::Job::CANCELLED,
                                  v1::FailureReason::FAILURE_REASON_UNSPECIFIED);
  }
  if (job.cancel_request_time().seconds() != 0 && job.state() != v1::Job::CANCELLED) {
    spdlog::info("{} {}: cancellation requested", job.name(), StateName(job.state()));
  }
  backend.controller.JobChanged(job);
  return job;
}

}  // namespace normlab::server
