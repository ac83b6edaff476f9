#include "server/api/read_jobs.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/api/job_filter.h"
#include "server/api/queue_reasons.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

constexpr int kDefaultPageSize = 50;
constexpr int kMaxPageSize = 1000;

}  // namespace

absl::StatusOr<v1::Job> HandleGetJob(Backend& backend,
                                     const Caller& /*caller*/,
                                     const v1::GetJobRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string id, ParseJobName(request.name()));
  NORMLAB_ASSIGN_OR_RETURN(v1::Job job, backend.store.GetJob(id));
  v1::Job* one = &job;
  FillQueueReasons(backend, absl::MakeSpan(&one, 1));
  return job;
}

absl::StatusOr<v1::ListJobsResponse> HandleListJobs(Backend& backend,
                                                    const Caller& caller,
                                                    const v1::ListJobsRequest& request) {
  if (request.page_size() < 0) {
    return InvalidArgument("page_size",
                           absl::StrCat("is ", request.page_size(), "; use 1 to ", kMaxPageSize,
                                        ", or leave it out for ", kDefaultPageSize));
  }
  const int page_size =
      request.page_size() == 0 ? kDefaultPageSize : std::min(request.page_size(), kMaxPageSize);
  NORMLAB_ASSIGN_OR_RETURN(JobFilter filter, ParseJobFilter(request.filter()));
  if (!caller.sees_all()) {
    if (filter.owner.has_value() && *filter.owner != caller.owner) {
      return v1::ListJobsResponse();  // as if there were none
    }
    filter.owner = caller.owner;
  }
  NORMLAB_ASSIGN_OR_RETURN(JobPage page,
                           backend.store.ListJobs(filter, page_size, request.page_token()));
  v1::ListJobsResponse response;
  for (v1::Job& job : page.jobs) {
    *response.add_jobs() = std::move(job);
  }
  std::vector<v1::Job*> listed;
  for (v1::Job& job : *response.mutable_jobs()) {
    listed.push_back(&job);
  }
  FillQueueReasons(backend, listed);
  response.set_next_page_token(std::move(page.next_page_token));
  return response;
}

}  // namespace normlab::server
