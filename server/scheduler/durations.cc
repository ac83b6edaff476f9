// The store measures how long a job waited, and how long an attempt held its cores, by the wall clock's
// times that it has. Here the same is known by a clock that nobody sets; where the two differ, because
// somebody set the wall clock meanwhile, what is stored is put right.
#include <algorithm>
#include <cmath>
#include <string>

#include "server/domain/names.h"
#include "server/domain/proto_time.h"
#include "server/scheduler/controller_impl.h"

#include "spdlog/spdlog.h"

namespace normlab::server {
namespace {

// Between a commit and here: what is less is no step of a clock. [seconds]
constexpr double kTolerance = 2;

void LogUnlessStored(const std::string& job_id, const absl::Status& status) {
  if (!status.ok() && !absl::IsNotFound(status)) {
    spdlog::warn("a duration of {} stays as the wall clock had it: {}", JobName(job_id),
                 std::string(status.message()));
  }
}

}  // namespace

void ControllerImpl::CorrectWaited(const std::string& job_id, const v1::Job& job) {
  const auto found = waiting_.find(job_id);
  const bool left = job.state() == v1::Job::PAUSED || job.state() == v1::Job::CANCELLED;
  if (found == waiting_.end() || !left ||
      FromTimestamp(job.queue_time()) != found->second.queue_time) {
    return;
  }
  const QueuedJob& queued = found->second.queued;
  const double measured = absl::ToDoubleSeconds(queued.waited + Monotonic() - queued.queued_since);
  const double excess = job.waited_seconds() - measured;
  if (std::abs(excess) <= kTolerance) {
    return;
  }
  Update(
      job_id,
      [excess](v1::Job& stored, std::vector<v1::Segment>&) {
        stored.set_waited_seconds(std::max(stored.waited_seconds() - excess, 0.0));
        return absl::OkStatus();
      },
      std::nullopt,
      [this, job_id](const JobResult& result) {
        LogUnlessStored(job_id, result.status());
        if (result.ok() && result->state() == v1::Job::QUEUED && !stopping_) {
          Refresh(job_id);  // resumed meanwhile, with the wrong wait
        }
      });
}

void ControllerImpl::CorrectCoreSeconds(const LiveAttempt& attempt, const v1::Job& job) {
  const auto ended = std::find_if(
      job.attempts().begin(), job.attempts().end(),
      [&attempt](const v1::Attempt& one) { return one.number() == attempt.key.number; });
  // What waits where it shall run holds nothing yet.
  const bool never_ran = capabilities_.may_wait && !attempt.counted;
  if (ended == job.attempts().end() || (!attempt.held_since.has_value() && !never_ran)) {
    return;
  }
  const double cores = ended->cores_size();
  const double measured =
      never_ran ? 0 : absl::ToDoubleSeconds(Monotonic() - *attempt.held_since) * cores;
  if (std::abs(ended->core_seconds() - measured) <= kTolerance * cores) {
    return;
  }
  Update(
      attempt.key.job_id,
      [number = attempt.key.number, measured](v1::Job& stored, std::vector<v1::Segment>&) {
        for (v1::Attempt& one : *stored.mutable_attempts()) {
          if (one.number() == number) {
            one.set_core_seconds(measured);
          }
        }
        return absl::OkStatus();
      },
      std::nullopt,
      [job_id = attempt.key.job_id](const JobResult& result) {
        LogUnlessStored(job_id, result.status());
      });
}

}  // namespace normlab::server
