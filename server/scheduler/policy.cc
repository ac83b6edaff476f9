#include "server/scheduler/policy.h"

#include <algorithm>
#include <map>
#include <utility>

#include "server/scheduler/queue_order.h"

namespace normlab::server {
namespace {

// One decision in the making.
class Decider {
 public:
  explicit Decider(const QueueState& state)
      : state_(state),
        free_(state.capacity, state.running),
        owners_(state.sharing, state.running) {}

  Decision Run() {
    KeepHistory();
    KeepRoomInQuotas(state_, owners_);
    VisitInOrder(state_, owners_, [this](const Turns::Turn& turn) { return Visit(turn); });
    return std::move(decision_);
  }

 private:
  using Entry = HeadHistory::Entry;

  // History is kept for those that wait still, so a head that a more urgent job displaced has not
  // lost its patience.
  void KeepHistory() {
    const HeadHistory& before = state_.history;
    if (before.entries.empty() && before.held.empty()) {
      return;
    }
    for (const QueuedJob* job : state_.queued) {
      if (!CanEverFit(*job, state_.capacity)) {
        continue;
      }
      if (const auto found = before.entries.find(job->id); found != before.entries.end()) {
        decision_.history.entries.insert(*found);
      }
      if (const auto found = before.held.find(job->id); found != before.held.end()) {
        decision_.history.held.insert(*found);
      }
    }
    if (decision_.history.entries.count(before.reserved) > 0) {
      decision_.history.reserved = before.reserved;
    }
  }

  // False: nothing may start after this job.
  bool Visit(const Turns::Turn& turn) {
    // Every job needs a core.
    if (head_ != nullptr && (free_.IsUsedUp() || IsImpatient(*head_, state_.now))) {
      return false;
    }
    if (owners_.HeldBack(turn.owner, *turn.job)) {
      HoldBack(turn);
      return true;
    }
    if (free_.Fits(*turn.job)) {
      Start(turn);
      return true;
    }
    const bool is_head = head_ == nullptr;
    if (is_head) {
      head_ =
          &decision_.history.entries.try_emplace(turn.job->id, Entry{state_.now, 0}).first->second;
    }
    const auto known = decision_.history.entries.find(turn.job->id);
    if (known != decision_.history.entries.end() && IsImpatient(known->second, state_.now)) {
      // Behind a more urgent head, too.
      decision_.history.reserved = turn.job->id;
      return false;
    }
    return true;
  }

  void Start(const Turns::Turn& turn) {
    HeadHistory& history = decision_.history;
    decision_.starts.push_back(free_.Take(*turn.job));
    history.entries.erase(turn.job->id);
    history.held.erase(turn.job->id);
    if (history.reserved == turn.job->id) {
      history.reserved.clear();
    }
    owners_.Start(turn.owner, *turn.job);
    if (turn.overtaken != nullptr) {
      ++history.entries[turn.overtaken->id].overtaken;
    }
    if (head_ != nullptr) {
      ++head_->passed_over;
    }
    if (const auto held = held_.find(turn.owner); held != held_.end()) {
      ++held->second.entry->passed_over;
      KeepRoomIfImpatient(turn.owner, held->second);
    }
  }

  // Its owner's quota has no room for it.
  void HoldBack(const Turns::Turn& turn) {
    // What other jobs leave room for, or what could never start, holds nobody up.
    if (held_.count(turn.owner) > 0 || !owners_.Exceeds(turn.owner, *turn.job) ||
        !owners_.Allows(*turn.job)) {
      return;
    }
    Entry& entry =
        decision_.history.held.try_emplace(turn.job->id, Entry{state_.now, 0}).first->second;
    KeepRoomIfImpatient(turn.owner, held_[turn.owner] = {turn.job, &entry});
  }

  struct HeldJob {
    const QueuedJob* job = nullptr;
    Entry* entry = nullptr;
  };
  void KeepRoomIfImpatient(int owner, const HeldJob& held) {
    if (owners_.kept(owner) == nullptr && IsImpatient(*held.entry, state_.now)) {
      owners_.KeepRoom(owner, *held.job);
    }
  }

  const QueueState& state_;
  Decision decision_;
  FreeResources free_;
  Owners owners_;
  Entry* head_ = nullptr;        // the first that may run and does not fit
  std::map<int, HeldJob> held_;  // by owner: the first that the quota holds back
};

}  // namespace

int64_t EffectivePriority(const QueuedJob& job, absl::Duration now) {
  const absl::Duration waited = job.waited + std::max(now - job.queued_since, absl::ZeroDuration());
  absl::Duration rest;
  return job.priority + absl::IDivDuration(waited, kAgingPeriod, &rest);
}

Decision Decide(const QueueState& state) {
  return Decider(state).Run();
}

Decision Decide(const std::vector<QueuedJob>& queued,
                const std::vector<Reservation>& running,
                const Capacity& capacity,
                const HeadHistory& history,
                absl::Duration now,
                const Sharing& sharing) {
  std::vector<const QueuedJob*> pointers;
  pointers.reserve(queued.size());
  for (const QueuedJob& job : queued) {
    pointers.push_back(&job);
  }
  return Decide({pointers, running, capacity, history, now, sharing});
}

}  // namespace normlab::server
