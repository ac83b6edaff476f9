#include "server/api/resume_job.h"

#include "common/status_macros.h"
#include "server/api/job_transition.h"
#include "server/domain/names.h"
#include "server/domain/transitions.h"

namespace normlab::server {

absl::StatusOr<v1::Job> HandleResumeJob(Backend& backend,
                                        const Caller& /*caller*/,
                                        const v1::ResumeJobRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string id, ParseJobName(request.name()));
  NORMLAB_ASSIGN_OR_RETURN(const v1::Job job, backend.store.GetJob(id));
  if (job.state() == v1::Job::PAUSED) {
    NORMLAB_RETURN_IF_ERROR(backend.queue_gate.CheckResume());
  }
  return ApplyTransition(backend, request.name(), &RequestResume);
}

}  // namespace normlab::server
