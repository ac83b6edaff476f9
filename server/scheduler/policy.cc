#include "server/scheduler/policy.h"

#include <algorithm>

#include "server/scheduler/queue_order.h"

namespace normlab::server {

int64_t EffectivePriority(const QueuedJob& job, absl::Time now) {
  // A clock that was set back must not punish.
  const absl::Duration waited = std::max(now - job.create_time, absl::ZeroDuration());
  absl::Duration rest;
  return job.priority + absl::IDivDuration(waited, kAgingPeriod, &rest);
}

Decision Decide(const QueueState& state) {
  Decision decision;
  // History is kept for those that wait still, so a head that a more urgent job displaced has not
  // lost its patience.
  if (!state.history.entries.empty()) {
    for (const QueuedJob* job : state.queued) {
      const auto found = state.history.entries.find(job->id);
      if (found != state.history.entries.end() && CanEverFit(*job, state.capacity)) {
        decision.history.entries.insert(*found);
      }
    }
  }

  FreeResources free(state.capacity, state.running);
  Owners owners(state.sharing, state.running);
  Turns turns(state, owners);
  HeadHistory::Entry* head = nullptr;
  for (Turns::Turn turn = turns.Next(); turn.job != nullptr; turn = turns.Next()) {
    // Every job needs a core.
    if (head != nullptr && (free.cores() == 0 || IsImpatient(*head, state.now))) {
      break;
    }
    if (owners.HeldBack(turn.owner, turn.job->cores)) {
      continue;
    }
    if (free.Fits(*turn.job)) {
      decision.starts.push_back(free.Take(*turn.job));
      decision.history.entries.erase(turn.job->id);
      owners.Start(turn.owner, turn.job->cores);
      if (head != nullptr) {
        ++head->passed_over;
      }
    } else if (head == nullptr) {
      head = &decision.history.entries.try_emplace(turn.job->id, HeadHistory::Entry{state.now, 0})
                  .first->second;
      // A clock that was set back must not make the head patient for longer.
      head->since = std::min(head->since, state.now);
    }
  }
  return decision;
}

Decision Decide(const std::vector<QueuedJob>& queued,
                const std::vector<Reservation>& running,
                const Capacity& capacity,
                const HeadHistory& history,
                absl::Time now,
                const Sharing& sharing) {
  std::vector<const QueuedJob*> pointers;
  pointers.reserve(queued.size());
  for (const QueuedJob& job : queued) {
    pointers.push_back(&job);
  }
  return Decide({pointers, running, capacity, history, now, sharing});
}

}  // namespace normlab::server
