#include "server/api/cancel_job.h"

#include "server/api/job_transition.h"
#include "server/domain/transitions.h"

namespace normlab::server {

absl::StatusOr<v1::Job> HandleCancelJob(Backend& backend,
                                        const Caller& /*caller*/,
                                        const v1::CancelJobRequest& request) {
  return ApplyTransition(backend, request.name(), &RequestCancel);
}

}  // namespace normlab::server
