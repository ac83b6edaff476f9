#include "server/api/queue_reasons.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/domain/names.h"

namespace normlab::server {

void FillQueueReasons(Backend& backend, absl::Span<v1::Job* const> jobs) {
  std::vector<std::string> ids;
  for (const v1::Job* job : jobs) {
    if (job->state() == v1::Job::QUEUED) {
      ids.push_back(ParseJobName(job->name()).value_or(""));
    }
  }
  if (ids.empty()) {
    return;
  }
  std::map<std::string, std::string> reasons = backend.controller.QueueReasons(std::move(ids));
  for (v1::Job* job : jobs) {
    if (job->state() != v1::Job::QUEUED) {
      continue;
    }
    const auto found = reasons.find(ParseJobName(job->name()).value_or(""));
    if (found != reasons.end()) {
      job->set_queue_reason(found->second);
    }
  }
}

}  // namespace normlab::server
