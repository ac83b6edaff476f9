#include "server/api/delete_job.h"

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

#include "common/status_macros.h"
#include "common/steady_wait.h"
#include "server/api/job_transition.h"
#include "server/api/unary.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/domain/states.h"
#include "server/domain/transitions.h"

#include <spdlog/spdlog.h>

namespace normlab::server {
namespace {

// Each of them keeps one of the handlers' threads waiting.
constexpr int kMaxForcedDeletions = 3;
// A worker that does not end when it is cancelled is killed after half a minute.
constexpr absl::Duration kForcedDeletionTimeout = absl::Seconds(45);
constexpr absl::Duration kReadRetryDelay = absl::Milliseconds(200);

// Told by the hub that the job has news.
struct News {
  absl::Mutex mu;
  common::SteadyWait arrival;
  bool came ABSL_GUARDED_BY(mu) = true;
};

// Waits for the end of a job that is being cancelled.
absl::Status WaitForEnd(Backend& backend, const std::string& id) {
  auto news = std::make_shared<News>();
  const std::unique_ptr<Hub::Subscription> subscription = backend.hub.Subscribe(id, [news] {
    absl::MutexLock lock(&news->mu);
    news->came = true;
    news->arrival.NotifyAll();
  });
  const common::Clock& clock = common::Clock::Real();
  const absl::Duration deadline = clock.Monotonic() + kForcedDeletionTimeout;
  while (true) {
    {
      absl::MutexLock lock(&news->mu);
      if (!news->arrival.WaitFor(news->mu, deadline - clock.Monotonic(),
                                 [&news]() { return news->came; })) {
        return absl::DeadlineExceededError(
            JobName(id) + " was cancelled, but has not ended yet; delete it again in a minute");
      }
      news->came = false;
    }
    const absl::StatusOr<v1::Job> job = backend.store.GetJob(id);
    if (absl::IsUnavailable(job.status()) && clock.Monotonic() < deadline) {
      // The job was cancelled and is to be deleted: a disk in trouble for a moment does not end
      // that.
      absl::SleepFor(kReadRetryDelay);
      absl::MutexLock lock(&news->mu);
      news->came = true;
      continue;
    }
    NORMLAB_RETURN_IF_ERROR(job.status());
    if (IsTerminal(job->state())) {
      return absl::OkStatus();
    }
  }
}

// Cancels a job that waits or runs, and waits until it has ended.
absl::Status EndByForce(Backend& backend, const std::string& id) {
  NORMLAB_ASSIGN_OR_RETURN(const v1::Job job, backend.store.GetJob(id));
  if (CheckDeletable(job, /*force=*/false).ok()) {
    return absl::OkStatus();
  }
  if (backend.forced_deletions.fetch_add(1) >= kMaxForcedDeletions) {
    backend.forced_deletions.fetch_sub(1);
    return Overloaded(kOverloadRetry);
  }
  absl::Status ended = ApplyTransition(backend, job.name(), &RequestCancel).status();
  // It may have ended by itself in between.
  if (ended.ok() || ReasonOf(ended) == reason::kJobTerminal) {
    ended = WaitForEnd(backend, id);
  }
  backend.forced_deletions.fetch_sub(1);
  return ended;
}

}  // namespace

absl::StatusOr<google::protobuf::Empty> HandleDeleteJob(Backend& backend,
                                                        const Caller& /*caller*/,
                                                        const v1::DeleteJobRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string id, ParseJobName(request.name()));
  absl::Status deleted = request.force() ? EndByForce(backend, id) : absl::OkStatus();
  if (deleted.ok()) {
    deleted = backend.store.DeleteJobAndWait(id);
  }
  if (absl::IsNotFound(deleted) && request.allow_missing()) {
    return google::protobuf::Empty();
  }
  NORMLAB_RETURN_IF_ERROR(deleted);
  spdlog::info("{} deleted", JobName(id));
  return google::protobuf::Empty();
}

}  // namespace normlab::server
