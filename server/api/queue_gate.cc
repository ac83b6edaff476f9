#include "server/api/queue_gate.h"

#include "server/domain/errors.h"

namespace normlab::server {
namespace {

// A job takes seconds at least; coming back sooner helps nobody.
constexpr absl::Duration kQueueRetry = absl::Seconds(10);

}  // namespace

absl::Status QueueGate::Reserve(const std::string& owner, int64_t jobs) {
  absl::MutexLock lock(&mu_);
  if (limits_.jobs > 0) {
    int64_t queued = reserved_;
    for (const auto& [state, count] : store_.CountByState()) {
      queued += state == v1::Job::QUEUED ? count : 0;
    }
    if (queued + jobs > limits_.jobs) {
      return QueueFull(limits_.jobs, kQueueRetry);
    }
  }
  if (limits_.jobs_per_owner > 0) {
    const auto reserved = reserved_by_.find(owner);
    const int64_t queued = store_.CountJobs(owner, v1::Job::QUEUED) +
                           (reserved == reserved_by_.end() ? 0 : reserved->second);
    if (queued + jobs > limits_.jobs_per_owner) {
      return OwnerQueueFull(owner, limits_.jobs_per_owner, kQueueRetry);
    }
  }
  reserved_ += jobs;
  reserved_by_[owner] += jobs;
  return absl::OkStatus();
}

void QueueGate::Release(const std::string& owner, int64_t jobs) {
  absl::MutexLock lock(&mu_);
  reserved_ -= jobs;
  const auto reserved = reserved_by_.find(owner);
  if (reserved != reserved_by_.end() && (reserved->second -= jobs) == 0) {
    reserved_by_.erase(reserved);
  }
}

}  // namespace normlab::server
