// Between the executor and the worker's hello: an attempt that was submitted, and may have to wait where
// it shall run.
#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/cache_folder.h"
#include "server/domain/transitions.h"
#include "server/scheduler/controller_impl.h"
#include "server/scheduler/failures.h"

#include "spdlog/spdlog.h"

namespace normlab::server {
namespace {

// Of looks at attempts that wait: what they cost does not depend on how often whoever runs them is
// asked.
constexpr absl::Duration kObserveInterval = absl::Milliseconds(500);
// Between answers to submissions that have nothing to do with each other.
constexpr absl::Duration kOneFailure = absl::Milliseconds(100);
// Several times within the grace that decoded data sets have.
constexpr absl::Duration kKeepDataInterval = absl::Minutes(1);
static_assert(kKeepDataInterval < common::kCacheLimits.least_grace);

}  // namespace

void ControllerImpl::OnSubmitted(const AttemptKey& key, absl::StatusOr<std::string> identity) {
  LiveAttempt* attempt = Find(key);
  if (attempt == nullptr || !attempt->submitting || stopping_) {
    return;
  }
  attempt->submitting = false;
  if (!identity.ok()) {
    attempt->has_process = false;
    if (attempt->phase == Phase::kEnded) {
      Remove(key);
      return;
    }
    if (attempt->phase == Phase::kKilled) {
      // Cancelled, paused or drained meanwhile.
      Lose(*attempt, *attempt->failure);
      return;
    }
    if (attempt->phase != Phase::kStarting) {
      return;  // its loss is being committed
    }
    if (absl::IsInvalidArgument(identity.status())) {
      Lose(*attempt, SubmissionRefusedFailure(identity.status().message()));
      return;
    }
    // No job's fault: those of the whole queue would fail one after the other. What is handed over
    // together fails together; and a limit of this owner's account stops nobody else.
    const bool is_limit = capabilities_.places && absl::IsResourceExhausted(identity.status());
    const bool is_news = !capabilities_.places || Monotonic() - not_submitted_at_ >= kOneFailure;
    if (!is_limit && is_news) {
      not_submitted_at_ = Monotonic();
      OnMachineFailed(identity.status());
    }
    TakeBack(*attempt, identity.status());
    return;
  }
  observer_.OnAttemptStarted();
  if (capabilities_.may_wait) {
    ReleaseStarts();
    observe_due_ = std::min(observe_due_, Monotonic() + kObserveInterval);
  } else if (attempt->phase == Phase::kStarting) {
    RunsOutside(*attempt, absl::ZeroDuration());
  }
  // The store keeps what reports have changed in the same row.
  AttemptSecrets secrets;
  secrets.process_identity = *std::move(identity);
  Update(
      key.job_id,
      [number = key.number](v1::Job& stored, std::vector<v1::Segment>&) {
        return IsCurrentAttempt(stored, number)
                   ? absl::OkStatus()
                   : absl::FailedPreconditionError("the attempt is over");
      },
      std::move(secrets),
      [name = attempt->job.name()](const JobResult& result) {
        if (!result.ok()) {
          // Only a restart of the server would have needed it; the attempt then counts as lost with
          // the server.
          spdlog::warn("the process of {} was not recorded: {}", name,
                       std::string(result.status().message()));
        }
      });
}

void ControllerImpl::RunsOutside(LiveAttempt& attempt, absl::Duration running_for) {
  attempt.waits_outside = false;
  attempt.outside_reason.clear();
  if (attempt.phase == Phase::kStarting) {
    attempt.phase_deadline = Monotonic() + options_.hello_timeout - running_for;
  } else if (attempt.phase == Phase::kAdopting) {
    attempt.phase_deadline = Monotonic() + options_.adoption_grace;
  }
  if (!attempt.counted) {
    attempt.held_since = Monotonic() - running_for;
    CountHeld(attempt, *attempt.held_since);
  }
  StartTimeLimit(attempt, running_for);
}

void ControllerImpl::StartTimeLimit(LiveAttempt& attempt, absl::Duration running_for) {
  if (attempt.job.resolved_spec().has_time_limit()) {
    const google::protobuf::Duration& limit = attempt.job.resolved_spec().time_limit();
    attempt.time_limit_deadline = Monotonic() + absl::Seconds(limit.seconds()) +
                                  absl::Nanoseconds(limit.nanos()) - running_for;
  }
}

void ControllerImpl::ObserveWaiting() {
  observe_due_ = absl::InfiniteDuration();
  std::vector<AttemptKey> keys;
  for (const auto& [id, attempt] : live_) {
    const bool looked_for = attempt->waits_outside || !attempt->place_known;
    if (looked_for && attempt->has_process && !attempt->submitting &&
        attempt->phase != Phase::kEnded) {
      keys.push_back(attempt->key);
    }
  }
  if (keys.empty()) {
    return;
  }
  observe_due_ = Monotonic() + kObserveInterval;
  if (Monotonic() >= data_due_) {
    data_due_ = Monotonic() + kKeepDataInterval;
    KeepDataOfWaiting();
  }
  for (const AttemptView& view : executor_.Observe(keys)) {
    LiveAttempt* attempt = Find(view.attempt);
    if (attempt == nullptr) {
      continue;
    }
    switch (view.state) {
      case AttemptView::State::kRunning:
        if (attempt->waits_outside) {
          RunsOutside(*attempt, view.running_for);
        }
        RecordPlace(*attempt, view.place);
        attempt->place_known = true;
        break;
      case AttemptView::State::kWaiting:
      case AttemptView::State::kUnknown:
        attempt->outside_reason = view.reason;
        break;
      case AttemptView::State::kGone:
        break;  // its exit is on its way
    }
  }
}

void ControllerImpl::KeepDataOfWaiting() {
  // It may be hours until they open it. One that finds nothing says so (kExitDataUnusable), and is taken
  // back.
  std::set<std::string> paths;
  for (const auto& [id, attempt] : live_) {
    if (attempt->waits_outside && !attempt->data_cache.empty()) {
      paths.insert(attempt->data_cache);
    }
  }
  for (const std::string& path : paths) {
    common::MarkCacheFileUsed(path);
  }
}

void ControllerImpl::RecordPlace(const LiveAttempt& attempt, const std::string& place) {
  if (place.empty() || attempt.phase == Phase::kEnded || attempt.phase == Phase::kEnding) {
    return;
  }
  Update(
      attempt.key.job_id,
      [number = attempt.key.number, place](v1::Job& stored, std::vector<v1::Segment>&) {
        if (!IsCurrentAttempt(stored, number)) {
          return absl::FailedPreconditionError("the attempt is over");
        }
        stored.mutable_attempts()->rbegin()->set_placement(place);
        return absl::OkStatus();
      },
      std::nullopt, [](const JobResult&) {});
}

Capacity ControllerImpl::CurrentCapacity() const {
  return {options_.cores, options_.memory_bytes,
          capabilities_.places ? std::max(capabilities_.max_attempts, 1) : 0};
}

bool ControllerImpl::IsFull() const {
  if (capabilities_.places) {
    return static_cast<int>(live_.size()) >= capabilities_.max_attempts;
  }
  size_t held_cores = 0;
  for (const auto& [id, attempt] : live_) {
    held_cores += attempt->reservation.cores.size();
  }
  return held_cores >= options_.cores.size();
}

}  // namespace normlab::server
