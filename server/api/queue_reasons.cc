#include "server/api/queue_reasons.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "server/domain/names.h"

namespace normlab::server {
namespace {

// A worker that makes steps reports twice a second at least; a step of the largest nets takes less.
constexpr absl::Duration kRemarkableSilence = absl::Seconds(10);

bool Waits(const v1::Job& job) {
  return job.state() == v1::Job::QUEUED || job.state() == v1::Job::STARTING;
}

std::string IdOf(const v1::Job& job) {
  return ParseJobName(job.name()).value_or("");
}

}  // namespace

void FillQueueReasons(Backend& backend, absl::Span<v1::Job* const> jobs) {
  std::vector<std::string> waiting;
  std::vector<std::string> running;
  for (const v1::Job* job : jobs) {
    if (Waits(*job)) {
      waiting.push_back(IdOf(*job));
    } else if (job->state() == v1::Job::RUNNING) {
      running.push_back(IdOf(*job));
    }
  }
  std::map<std::string, std::string> reasons;
  if (!waiting.empty()) {
    reasons = backend.controller.QueueReasons(std::move(waiting));
  }
  std::map<std::string, absl::Duration> silences;
  if (!running.empty()) {
    silences = backend.controller.Silences(std::move(running));
  }
  for (v1::Job* job : jobs) {
    if (const auto reason = reasons.find(IdOf(*job)); Waits(*job) && reason != reasons.end()) {
      job->set_queue_reason(reason->second);
    }
    if (const auto silence = silences.find(IdOf(*job));
        silence != silences.end() && silence->second >= kRemarkableSilence) {
      job->set_queue_reason(
          absl::StrCat("no report for ", absl::ToInt64Seconds(silence->second),
                       " s: its worker is stuck, stopped, cut off or in a very long step"));
    }
  }
}

}  // namespace normlab::server
