// The controller's queue: who waits, who is next, and why the others are not.
#include <algorithm>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/names.h"
#include "server/domain/proto_time.h"
#include "server/domain/states.h"
#include "server/scheduler/controller_impl.h"
#include "server/scheduler/retry.h"

#include "spdlog/spdlog.h"

namespace normlab::server {
namespace {

// What a killed server forgets of the owners' usage at most.
constexpr absl::Duration kUsageInterval = absl::Seconds(30);
// While every core is held nothing can start, so thousands of submissions a second do not need a
// decision over the whole queue each; but who is first, and since when, is to be noted.
constexpr absl::Duration kFullServerInterval = absl::Milliseconds(100);
// A job is better shown without a reason than late.
constexpr absl::Duration kReasonPatience = absl::Milliseconds(200);
// What keeps jobs of a queue that is this long waiting is found out for all of them at a time.
constexpr size_t kLongQueue = 500;
constexpr absl::Duration kReasonsKeptFor = absl::Milliseconds(500);

}  // namespace

void ControllerImpl::Schedule() {
  must_schedule_ = false;
  if (draining_) {
    return;
  }
  const absl::Duration now = Monotonic();
  if (IsFull() && now < last_decision_ + kFullServerInterval) {
    next_delay_ = std::min(next_delay_, last_decision_ + kFullServerInterval);
    return;
  }
  last_decision_ = now;
  next_delay_ = absl::InfiniteDuration();
  std::vector<const QueuedJob*> queued;
  queued.reserve(waiting_.size());
  oldest_wait_since_ = absl::InfiniteDuration();
  for (const auto& [id, job] : waiting_) {
    oldest_wait_since_ = std::min(oldest_wait_since_, job.queued.queued_since);
    if (job.not_before > now) {
      next_delay_ = std::min(next_delay_, job.not_before);
      continue;
    }
    // The process of the attempt before may not have gone yet; its end brings us here again.
    if (live_.count(id) == 0) {
      queued.push_back(&job.queued);
    }
  }
  if (StartsAreHeld(now)) {
    return;
  }
  const Sharing sharing = CurrentSharing();
  Decision decision = Decide({queued, Reservations(), CurrentCapacity(), history_, now, sharing});
  if (!decision.starts.empty() && !WorkFolderIsUsable()) {
    return;
  }
  history_ = std::move(decision.history);
  if (OneStartAtATime() && decision.starts.size() > 1) {
    decision.starts.resize(1);
  }
  for (const StartAction& start : decision.starts) {
    Begin(start);
  }
  if (!decision.starts.empty()) {
    oldest_wait_since_ = absl::InfiniteDuration();
    for (const auto& [id, job] : waiting_) {
      oldest_wait_since_ = std::min(oldest_wait_since_, job.queued.queued_since);
    }
  }
}

Sharing ControllerImpl::CurrentSharing() {
  Sharing sharing = options_.sharing;
  sharing.usage = ledger_.Usage(Monotonic());
  return sharing;
}

std::vector<Reservation> ControllerImpl::Reservations() const {
  std::vector<Reservation> running;
  for (const auto& [id, attempt] : live_) {
    running.push_back(attempt->reservation);
  }
  return running;
}

LiveAttempt& ControllerImpl::AddLive(std::unique_ptr<LiveAttempt> attempt, absl::Duration since) {
  LiveAttempt& added = *attempt;
  added.heard_at = Monotonic();
  if (!capabilities_.may_wait || added.held_since.has_value()) {
    CountHeld(added, since);
  }
  live_[added.key.job_id] = std::move(attempt);
  usage_due_ = std::min(usage_due_, Monotonic() + kUsageInterval);
  return added;
}

void ControllerImpl::CountHeld(LiveAttempt& attempt, absl::Duration since) {
  attempt.counted = true;
  ledger_.Hold(attempt.reservation.owner, static_cast<int>(attempt.reservation.cores.size()),
               since);
}

absl::Status ControllerImpl::LoadUsage() {
  NORMLAB_ASSIGN_OR_RETURN(const std::vector<OwnerUsage> stored, store_.LoadUsage());
  for (const OwnerUsage& usage : stored) {
    // The wall clock may have been set back since.
    const absl::Duration ago = std::max(WallClock() - usage.as_of, absl::ZeroDuration());
    const absl::Duration as_of = Monotonic() - ago;
    ledger_.Add(usage.owner, usage.core_seconds, as_of);
    usage_loaded_[usage.owner] = as_of;
  }
  return absl::OkStatus();
}

void ControllerImpl::SaveUsage() {
  // Once more after the last attempt is gone, then there is nothing new.
  usage_due_ = live_.empty() ? absl::InfiniteDuration() : Monotonic() + kUsageInterval;
  std::vector<OwnerUsage> usage;
  for (const auto& [owner, core_seconds] : ledger_.Usage(Monotonic())) {
    usage.push_back({owner, core_seconds, WallClock()});
  }
  if (usage.empty()) {
    return;
  }
  store_.SaveUsage(std::move(usage), [](const absl::Status& saved) {
    if (!saved.ok()) {
      // The shares of the next server will not know of the last minute.
      spdlog::warn("the owners' usage is not saved: {}", std::string(saved.message()));
    }
  });
}

void ControllerImpl::Remove(const AttemptKey& key) {
  const LiveAttempt* attempt = Find(key);
  if (attempt == nullptr) {
    return;
  }
  if (attempt->counted) {
    ledger_.Release(attempt->reservation.owner, static_cast<int>(attempt->reservation.cores.size()),
                    Monotonic());
  }
  live_.erase(key.job_id);
  must_schedule_ = true;
}

void ControllerImpl::PublishLoad() {
  Load load;
  load.queued = static_cast<int>(waiting_.size());
  load.oldest_wait_since = waiting_.empty() ? absl::InfiniteDuration() : oldest_wait_since_;
  std::set<int> free(options_.cores.begin(), options_.cores.end());
  load.free_memory_bytes = options_.memory_bytes;
  for (const auto& [id, attempt] : live_) {
    load.running += attempt->phase != Phase::kEnded ? 1 : 0;
    if (capabilities_.places) {
      continue;
    }
    load.free_memory_bytes -= attempt->reservation.memory_bytes;
    for (const int core : attempt->reservation.cores) {
      free.erase(core);
    }
  }
  load.free_cores = static_cast<int>(free.size());
  load.free_memory_bytes = std::max<int64_t>(load.free_memory_bytes, 0);
  absl::MutexLock lock(&load_mu_);
  load_ = load;
  idle_ = live_.empty() || (draining_ && capabilities_.outlives_server);
  load_published_.NotifyAll();
}

void ControllerImpl::AddWaiting(const v1::Job& job) {
  const absl::StatusOr<std::string> id = ParseJobName(job.name());
  if (!id.ok()) {
    spdlog::error("a job without a valid name is not scheduled: {}", job.name());
    return;
  }
  AddWaiting(QueueEntryOf(*id, job), RemainingRetryDelay(job, WallClock()));
}

void ControllerImpl::AddWaiting(const QueueEntry& entry, absl::Duration retry_delay) {
  WaitingJob waiting;
  waiting.queued.id = entry.id;
  waiting.queued.owner = entry.owner;
  waiting.queued.priority = entry.priority;
  waiting.queued.create_time = entry.create_time;
  waiting.queued.cores = entry.cores;
  waiting.queued.memory_bytes = entry.memory_bytes;
  waiting.queued.waited = entry.waited;
  waiting.queue_time = entry.queue_time;
  const auto known = waiting_.find(entry.id);
  const bool never_left = known != waiting_.end() && known->second.queue_time == waiting.queue_time;
  // Across a restart only the wall clock tells; it may have been set back since.
  waiting.queued.queued_since =
      never_left ? known->second.queued.queued_since
                 : Monotonic() - std::max(WallClock() - waiting.queue_time, absl::ZeroDuration());
  if (retry_delay > absl::ZeroDuration()) {
    waiting.not_before = Monotonic() + retry_delay;
    next_delay_ = std::min(next_delay_, waiting.not_before);
  }
  oldest_wait_since_ = std::min(oldest_wait_since_, waiting.queued.queued_since);
  waiting_.insert_or_assign(entry.id, std::move(waiting));
  must_schedule_ = true;
}

void ControllerImpl::Refresh(const std::string& job_id) {
  const JobResult job = store_.GetJob(job_id);
  if (job.ok() && job->state() == v1::Job::QUEUED) {
    AddWaiting(*job);
    return;
  }
  waiting_.erase(job_id);
  must_schedule_ = true;
  if (absl::IsDataLoss(job.status())) {
    FailDamagedJob(job_id, job.status());
    return;
  }
  if (!job.ok() && !absl::IsNotFound(job.status())) {
    spdlog::warn("cannot read {}: {}; trying again", JobName(job_id),
                 std::string(job.status().message()));
    rechecks_[job_id] = Monotonic() + kStoreRetryDelay;
  }
}

void ControllerImpl::OnJobChanged(const v1::Job& job) {
  const absl::StatusOr<std::string> id = ParseJobName(job.name());
  if (stopping_ || !id.ok()) {
    return;
  }
  CorrectWaited(*id, job);
  // `job` may be older than what is known here, as it comes on any thread: only what cannot be taken
  // back is believed, the rest is read anew.
  if (IsTerminal(job.state())) {
    // It may have been the head that all others waited for.
    must_schedule_ = waiting_.erase(*id) > 0 || must_schedule_;
    return;
  }
  const auto live = live_.find(*id);
  if (live != live_.end() && live->second->phase != Phase::kEnded) {
    if (job.has_cancel_request_time()) {
      RequestCancel(*live->second);
    } else if (job.has_pause_request_time() || live->second->pause_requested) {
      FollowPause(*live->second);
    }
    return;
  }
  const bool just_created = job.state() == v1::Job::QUEUED && job.attempts().empty() &&
                            waiting_.count(*id) == 0 && live == live_.end();
  if (just_created) {
    AddWaiting(job);
  } else {
    Refresh(*id);
  }
}

template <typename Result>
Result ControllerImpl::Ask(std::function<Result()> look) {
  struct Answer {
    absl::Mutex mu;
    common::SteadyWait arrival;
    bool there ABSL_GUARDED_BY(mu) = false;
    Result result ABSL_GUARDED_BY(mu);
  };
  auto answer = std::make_shared<Answer>();
  const bool posted = mailbox_->Post([answer, look = std::move(look)] {
    Result result = look();
    absl::MutexLock lock(&answer->mu);
    answer->result = std::move(result);
    answer->there = true;
    answer->arrival.NotifyAll();
  });
  if (!posted) {
    return {};
  }
  absl::MutexLock lock(&answer->mu);
  answer->arrival.WaitFor(answer->mu, kReasonPatience, [&answer]() { return answer->there; });
  return std::move(answer->result);
}

std::map<std::string, std::string> ControllerImpl::QueueReasons(std::vector<std::string> job_ids) {
  return Ask<std::map<std::string, std::string>>(
      [this, job_ids = std::move(job_ids)] { return Explain(job_ids); });
}

std::map<std::string, absl::Duration> ControllerImpl::Silences(std::vector<std::string> job_ids) {
  return Ask<std::map<std::string, absl::Duration>>([this, job_ids = std::move(job_ids)] {
    std::map<std::string, absl::Duration> silences;
    for (const std::string& id : job_ids) {
      const auto live = live_.find(id);
      if (live == live_.end() || live->second->phase == Phase::kEnded) {
        continue;
      }
      const LiveAttempt& attempt = *live->second;
      silences[id] =
          attempt.session != nullptr ? attempt.session->Silence() : Monotonic() - attempt.heard_at;
    }
    return silences;
  });
}

std::map<std::string, std::string> ControllerImpl::ExplainByPolicy(
    const std::vector<std::string>& job_ids, absl::Duration now) {
  std::vector<const QueuedJob*> queued;
  for (const auto& [id, job] : waiting_) {
    if (job.not_before <= now && live_.count(id) == 0) {
      queued.push_back(&job.queued);
    }
  }
  const Sharing sharing = CurrentSharing();
  return ExplainQueue({queued, Reservations(), CurrentCapacity(), history_, now, sharing}, job_ids);
}

std::map<std::string, std::string> ControllerImpl::Explain(
    const std::vector<std::string>& job_ids) {
  const absl::Duration now = Monotonic();
  std::map<std::string, std::string> reasons;
  if (waiting_.size() < kLongQueue) {
    reasons = ExplainByPolicy(job_ids, now);
  } else {
    // The whole queue has to be put in order for one answer, so it is done for all of them.
    if (now >= reasons_of_all_.as_of + kReasonsKeptFor) {
      std::vector<std::string> all;
      all.reserve(waiting_.size());
      for (const auto& [id, job] : waiting_) {
        all.push_back(id);
      }
      reasons_of_all_ = {ExplainByPolicy(all, now), now};
    }
    for (const std::string& id : job_ids) {
      if (const auto known = reasons_of_all_.by_id.find(id);
          known != reasons_of_all_.by_id.end() && waiting_.count(id) > 0) {
        reasons.insert(*known);
      }
    }
  }
  for (const std::string& id : job_ids) {
    const auto found = waiting_.find(id);
    if (found == waiting_.end()) {
      // It has its cores already.
      if (const auto live = live_.find(id); live != live_.end()) {
        if (live->second->phase == Phase::kPreparing) {
          reasons[id] = "waits for its data set to be looked at, and decoded if that is new";
        } else if (live->second->phase == Phase::kStarting && live->second->waits_outside) {
          reasons[id] = absl::StrCat("waits in ", capabilities_.name,
                                     live->second->outside_reason.empty() ? "" : ": ",
                                     live->second->outside_reason);
        } else if (live->second->phase == Phase::kStarting) {
          reasons[id] = "waits for its process to plan its network";
        }
      }
      continue;
    }
    if (draining_) {
      reasons[id] = "waits for the server, which is being stopped, to be started again";
    } else if (live_.count(id) > 0) {
      reasons[id] = "waits for the process of its last attempt to be gone";
    } else if (found->second.not_before > now) {
      reasons[id] = absl::StrCat(
          "waits ",
          absl::FormatDuration(absl::Ceil(found->second.not_before - now, absl::Seconds(1))),
          " before it is tried again", found->second.postponed_for.empty() ? "" : ": ",
          found->second.postponed_for);
    } else if (!trouble_.what.ok()) {
      reasons[id] = absl::StrCat("waits for the machine: ", trouble_.what.message());
    }
  }
  return reasons;
}

}  // namespace normlab::server
