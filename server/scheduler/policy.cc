#include "server/scheduler/policy.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "absl/strings/string_view.h"

namespace normlab::server {
namespace {

// What is left of the capacity.
class FreeResources {
 public:
  FreeResources(const Capacity& capacity, const std::vector<Reservation>& running)
      : cores_(capacity.cores.begin(), capacity.cores.end()), memory_bytes_(capacity.memory_bytes) {
    for (const Reservation& reservation : running) {
      // Cores beyond the capacity (it was larger when the attempt started) are nothing to give
      // away.
      for (const int core : reservation.cores) {
        cores_.erase(core);
      }
      memory_bytes_ -= reservation.memory_bytes;
    }
  }

  bool Fits(const QueuedJob& job) const {
    return job.cores <= static_cast<int>(cores_.size()) && job.memory_bytes <= memory_bytes_;
  }

  StartAction Take(const QueuedJob& job) {
    StartAction start{job.id, {}, job.memory_bytes};
    for (int i = 0; i < job.cores; ++i) {
      start.cores.push_back(*cores_.begin());
      cores_.erase(cores_.begin());
    }
    memory_bytes_ -= job.memory_bytes;
    return start;
  }

 private:
  std::set<int> cores_;
  int64_t memory_bytes_;
};

}  // namespace

int64_t EffectivePriority(const QueuedJob& job, absl::Time now) {
  // A clock that was set back must not punish.
  const absl::Duration waited = std::max(now - job.create_time, absl::ZeroDuration());
  absl::Duration rest;
  return job.priority + absl::IDivDuration(waited, kAgingPeriod, &rest);
}

Decision Decide(const std::vector<QueuedJob>& queued,
                const std::vector<Reservation>& running,
                const Capacity& capacity,
                const HeadHistory& history,
                absl::Time now) {
  std::vector<const QueuedJob*> order;
  for (const QueuedJob& job : queued) {
    const bool can_ever_fit = job.cores <= static_cast<int>(capacity.cores.size()) &&
                              job.memory_bytes <= capacity.memory_bytes;
    if (can_ever_fit) {
      order.push_back(&job);
    }
  }
  // Fair share goes between the two: the owner's decayed core-seconds over weight, compared after
  // the effective priority and before the age.
  const auto key = [now](const QueuedJob* job) {
    return std::make_tuple(-EffectivePriority(*job, now), job->create_time,
                           absl::string_view(job->id));
  };
  std::sort(order.begin(), order.end(),
            [&key](const QueuedJob* a, const QueuedJob* b) { return key(a) < key(b); });

  Decision decision;
  // History is kept for those that wait still, so a head that a more urgent job displaced has not
  // lost its patience.
  for (const QueuedJob* job : order) {
    if (const auto found = history.entries.find(job->id); found != history.entries.end()) {
      decision.history.entries.insert(*found);
    }
  }

  FreeResources free(capacity, running);
  HeadHistory::Entry* head = nullptr;
  for (const QueuedJob* job : order) {
    if (head != nullptr &&
        (now - head->since >= kHeadPatience || head->passed_over >= kMaxPassedOver)) {
      return decision;
    }
    if (free.Fits(*job)) {
      decision.starts.push_back(free.Take(*job));
      decision.history.entries.erase(job->id);
      if (head != nullptr) {
        ++head->passed_over;
      }
    } else if (head == nullptr) {
      head =
          &decision.history.entries.try_emplace(job->id, HeadHistory::Entry{now, 0}).first->second;
      // A clock that was set back must not make the head patient for longer.
      head->since = std::min(head->since, now);
    }
  }
  return decision;
}

}  // namespace normlab::server
