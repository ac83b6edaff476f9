// What keeps the machine from starting attempts. None of it is a job's fault, so it costs no job
// anything: an attempt that cannot be started is taken back and tried again, and after several in a row
// nothing is started but one try from time to time.
#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "server/domain/names.h"
#include "server/domain/take_back.h"
#include "server/scheduler/controller_impl.h"
#include "server/scheduler/failures.h"
#include "server/scheduler/work_folder.h"

#include "spdlog/spdlog.h"

namespace normlab::server {
namespace {

// So many attempts in a row that could not be started are the machine's matter, not their jobs'.
constexpr int kFailuresUntilHeld = 3;
constexpr absl::Duration kFirstHold = absl::Seconds(1);
constexpr absl::Duration kLongestHold = absl::Minutes(1);
constexpr int kMostDoublings = 6;
// A data set that cannot be decoded in time, or whose decoded form is damaged again and again.
constexpr int kMostDataFailures = 3;
// Looking at the work folder costs next to nothing.
constexpr absl::Duration kFolderInterval = absl::Seconds(1);
// What a job's first checkpoint and its final weights take: weights and two slots of an optimizer, each
// twice.
constexpr int64_t kBytesPerParameter = 2 * 3 * 4;

}  // namespace

bool ControllerImpl::StartsAreHeld(absl::Duration now) {
  if (now < trouble_.not_before) {
    next_delay_ = std::min(next_delay_, trouble_.not_before);
    return true;
  }
  if (trouble_.failures < kFailuresUntilHeld) {
    return false;
  }
  // One try at a time; its end, or its hello, brings us here again.
  return std::any_of(live_.begin(), live_.end(), [](const auto& live) {
    const Phase phase = live.second->phase;
    // One that was taken, and waits where it shall run, says nothing more for a long time.
    const bool taken = live.second->waits_outside && !live.second->submitting;
    return phase == Phase::kBeginning || phase == Phase::kPreparing ||
           (phase == Phase::kStarting && !taken);
  });
}

bool ControllerImpl::OneStartAtATime() const {
  return trouble_.failures >= kFailuresUntilHeld;
}

bool ControllerImpl::WorkFolderIsUsable() {
  const absl::Status usable = CheckRoom(start_options_.least_free_bytes);
  if (!usable.ok()) {
    HoldStarts(usable, Monotonic() + kFolderInterval);
    return false;
  }
  if (trouble_.failures < kFailuresUntilHeld) {
    ClearTrouble();
  }
  return true;
}

absl::Status ControllerImpl::CheckRoom(int64_t free_bytes) const {
  return MakeRoom(options_.work_dir, options_.cache_dir, start_options_.work_mark, free_bytes);
}

absl::Status ControllerImpl::CheckRoomFor(const v1::Job& job) const {
  return CheckRoom(start_options_.least_free_bytes +
                   job.estimate().parameters() * kBytesPerParameter);
}

void ControllerImpl::HoldStarts(const absl::Status& why, absl::Duration until) {
  if (trouble_.what.ok()) {
    spdlog::error("no job is started: {}", std::string(why.message()));
  }
  if (trouble_.what != why) {
    trouble_.what = why;
    TellStarts();
  }
  trouble_.not_before = until;
  next_delay_ = std::min(next_delay_, until);
}

void ControllerImpl::TellStarts() const {
  if (start_options_.on_change) {
    start_options_.on_change(trouble_.what);
  }
}

void ControllerImpl::ReleaseStarts() {
  trouble_.failures = 0;
  ClearTrouble();
}

void ControllerImpl::ClearTrouble() {
  trouble_.not_before = -absl::InfiniteDuration();
  if (!trouble_.what.ok()) {
    spdlog::info("jobs are started again");
    trouble_.what = absl::OkStatus();
    TellStarts();
    must_schedule_ = true;
  }
}

void ControllerImpl::OnMachineFailed(const absl::Status& why) {
  const int held_before = ++trouble_.failures - kFailuresUntilHeld;
  if (held_before >= 0) {
    HoldStarts(
        absl::UnavailableError(absl::StrCat("workers cannot be started: ", why.message(),
                                            "; mend the machine, and jobs go on by themselves")),
        Monotonic() +
            std::min(kFirstHold * (1 << std::min(held_before, kMostDoublings)), kLongestHold));
  }
}

void ControllerImpl::TakeBack(LiveAttempt& attempt, const absl::Status& why) {
  spdlog::warn("{} attempt {} is not started yet: {}", attempt.job.name(), attempt.key.number,
               std::string(why.message()));
  attempt.phase = Phase::kEnding;
  attempt.phase_deadline = absl::InfiniteDuration();
  // Should the store refuse it, the attempt is lost instead.
  attempt.failure = NotStartedFailure(why);
  Update(
      attempt.key.job_id,
      [number = attempt.key.number, why = std::string(why.message()), now = WallClock()](
          v1::Job& stored, std::vector<v1::Segment>& records) {
        return TakeBackAttempt(stored, number, why, now, records);
      },
      std::nullopt,
      [this, key = attempt.key, why = std::string(why.message())](JobResult result) {
        OnTakenBack(key, why, std::move(result));
      });
}

void ControllerImpl::OnDataNotReady(LiveAttempt& attempt, const absl::Status& why) {
  if (++attempt.data_failures < kMostDataFailures) {
    TakeBack(attempt, why);
    return;
  }
  Lose(attempt, DataFailure(absl::Status(
                    why.code(), absl::StrCat(why.message(), " (so it was ", attempt.data_failures,
                                             " times in a row; submit the job again when that is "
                                             "mended)"))));
}

void ControllerImpl::OnTakenBack(const AttemptKey& key, const std::string& why, JobResult result) {
  const LiveAttempt* attempt = Find(key);
  if (attempt == nullptr || attempt->phase != Phase::kEnding || stopping_) {
    return;
  }
  if (!result.ok()) {
    OnLost(key, std::move(result));
    return;
  }
  observer_.OnTransition(result->state(), result->state() == v1::Job::QUEUED
                                              ? v1::FailureReason::NODE_FAILED
                                              : v1::FailureReason::FAILURE_REASON_UNSPECIFIED);
  const int postponed = attempt->postponed;
  const int data_failures = attempt->data_failures;
  Remove(key);
  if (result->state() != v1::Job::QUEUED) {
    return;
  }
  AddWaiting(*result);
  if (const auto found = waiting_.find(key.job_id); found != waiting_.end()) {
    WaitingJob waiting = found->second;
    waiting.postponed = postponed;
    waiting.data_failures = data_failures;
    Postpone(std::move(waiting), why);
  }
}

}  // namespace normlab::server
