#include "server/api/pause_job.h"

#include "server/api/job_transition.h"
#include "server/domain/transitions.h"

namespace normlab::server {

absl::StatusOr<v1::Job> HandlePauseJob(Backend& backend,
                                       const Caller& /*caller*/,
                                       const v1::PauseJobRequest& request) {
  return ApplyTransition(backend, request.name(), &RequestPause);
}

}  // namespace normlab::server
