#include "server/api/job_transition.h"

#include <memory>

#include "common/status_macros.h"
#include "server/domain/names.h"
#include "server/domain/states.h"

#include <spdlog/spdlog.h>

namespace normlab::server {

absl::StatusOr<v1::Job> ApplyTransition(Backend& backend,
                                        const std::string& name,
                                        JobTransition transition) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string id, ParseJobName(name));
  // Written by the mutator on the store's thread, read after the commit.
  auto before = std::make_shared<v1::Job::State>(v1::Job::STATE_UNSPECIFIED);
  NORMLAB_ASSIGN_OR_RETURN(
      v1::Job job,
      backend.store.UpdateJobAndWait(id, [before, transition, clock = backend.options.clock](
                                             v1::Job& stored, std::vector<v1::Segment>& records) {
        *before = stored.state();
        return transition(stored, clock->Now(), records);
      }));
  if (job.state() != *before) {
    spdlog::info("{} {}: was {}, as asked", job.name(), StateName(job.state()), StateName(*before));
    backend.observer.OnTransition(job.state(), v1::FailureReason::FAILURE_REASON_UNSPECIFIED);
  } else if (IsActive(job.state())) {
    spdlog::info("{} {}: {}", job.name(), StateName(job.state()),
                 job.has_cancel_request_time()  ? "cancellation requested"
                 : job.has_pause_request_time() ? "pause requested"
                                                : "pause taken back");
  }
  backend.controller.JobChanged(job);
  return job;
}

}  // namespace normlab::server
