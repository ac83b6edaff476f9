#pragma once

#include "absl/status/statusor.h"

#include "server/api/backend.h"
#include "server/api/caller.h"

#include "normlab/v1/jobs.pb.h"

namespace normlab::server {

// One job by name. INVALID_ARGUMENT: not a job's name; NOT_FOUND. Reads the disk.
absl::StatusOr<v1::Job> HandleGetJob(Backend& backend,
                                     const Caller& caller,
                                     const v1::GetJobRequest& request);

// A page of jobs, newest first. page_size above 1000 means 1000 and 0 means 50. INVALID_ARGUMENT: a
// negative page_size, a filter that cannot be read, a token of another filter. Reads the disk.
absl::StatusOr<v1::ListJobsResponse> HandleListJobs(Backend& backend,
                                                    const Caller& caller,
                                                    const v1::ListJobsRequest& request);

}  // namespace normlab::server
