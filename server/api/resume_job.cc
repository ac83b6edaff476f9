#include "server/api/resume_job.h"

#include "server/api/job_transition.h"
#include "server/domain/transitions.h"

namespace normlab::server {

absl::StatusOr<v1::Job> HandleResumeJob(Backend& backend,
                                        const Caller& /*caller*/,
                                        const v1::ResumeJobRequest& request) {
  return ApplyTransition(backend, request.name(), &RequestResume);
}

}  // namespace normlab::server
