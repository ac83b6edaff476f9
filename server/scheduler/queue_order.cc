#include "server/scheduler/queue_order.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_set.h"

namespace normlab::server {

FreeResources::FreeResources(const Capacity& capacity, absl::Span<const Reservation> running)
    : counts_attempts_(capacity.max_attempts > 0),
      attempts_(capacity.max_attempts - static_cast<int>(running.size())),
      cores_(capacity.cores.begin(), capacity.cores.end()),
      memory_bytes_(capacity.memory_bytes) {
  if (counts_attempts_) {
    return;
  }
  for (const Reservation& reservation : running) {
    // Cores beyond the capacity (it was larger when the attempt started) are nothing to give away.
    for (const int core : reservation.cores) {
      cores_.erase(core);
    }
    memory_bytes_ -= reservation.memory_bytes;
  }
}

StartAction FreeResources::Take(const QueuedJob& job) {
  StartAction start{job.id, {}, job.memory_bytes};
  if (counts_attempts_) {
    --attempts_;
    // How many they are counts; which ones, somebody else decides.
    for (int i = 0; i < job.cores; ++i) {
      start.cores.push_back(i);
    }
    return start;
  }
  for (int i = 0; i < job.cores; ++i) {
    start.cores.push_back(*cores_.begin());
    cores_.erase(cores_.begin());
  }
  memory_bytes_ -= job.memory_bytes;
  return start;
}

Owners::Owners(const Sharing& sharing, absl::Span<const Reservation> running) : sharing_(sharing) {
  for (const Reservation& reservation : running) {
    Hold(IndexOf(reservation.owner), static_cast<int>(reservation.cores.size()));
  }
}

int Owners::IndexOf(const std::string& owner) {
  const auto [it, is_new] = indexes_.try_emplace(owner, static_cast<int>(owners_.size()));
  if (is_new) {
    Owner& made = owners_.emplace_back();
    if (const auto usage = sharing_.usage.find(owner); usage != sharing_.usage.end()) {
      made.usage = usage->second;
    }
    if (const auto weight = sharing_.weights.find(owner); weight != sharing_.weights.end()) {
      made.weight = weight->second;
    }
  }
  return it->second;
}

bool Owners::Exceeds(int owner, int cores, int jobs) const {
  const Owner& held = owners_[owner];
  return (sharing_.owner_max_running > 0 && held.running + jobs > sharing_.owner_max_running) ||
         (sharing_.owner_max_cores > 0 && held.cores + cores > sharing_.owner_max_cores);
}

bool Owners::HeldBack(int owner, const QueuedJob& job) const {
  const QueuedJob* kept = owners_[owner].kept;
  const bool leaves_room = kept != nullptr && kept != &job && job.priority <= kept->priority;
  return leaves_room ? Exceeds(owner, job.cores + kept->cores, 2) : Exceeds(owner, job.cores, 1);
}

double Owners::Share(int owner) const {
  const Owner& held = owners_[owner];
  return (held.usage + held.cores * absl::ToDoubleSeconds(kShareAdvance)) / held.weight;
}

int64_t Owners::SharedPriority(const QueuedJob& job, absl::Duration now) const {
  return EffectivePriority(job, now) - std::max<int64_t>(0, int64_t{job.priority} - max_priority());
}

void Owners::Hold(int owner, int cores) {
  owners_[owner].cores += cores;
  ++owners_[owner].running;
}

void Owners::Start(int owner, const QueuedJob& job) {
  Hold(owner, job.cores);
  if (owners_[owner].kept == &job) {
    owners_[owner].kept = nullptr;
  }
}

Turns::Turns(absl::Span<const QueuedJob* const> queued,
             const Capacity& capacity,
             absl::Duration now,
             Owners& owners)
    : owners_(owners) {
  waiting_.reserve(queued.size());
  bool some_above = false;
  for (const QueuedJob* job : queued) {
    if (CanEverFit(*job, capacity)) {
      waiting_.push_back({owners_.SharedPriority(*job, now), EffectivePriority(*job, now),
                          job->create_time, job, owners_.IndexOf(job->owner), -1});
      some_above = some_above || job->priority > owners_.max_priority();
    }
  }
  if (some_above) {
    ExchangeTurns();
  }
  std::sort(waiting_.begin(), waiting_.end(), [this](const Waiting& a, const Waiting& b) {
    return std::tie(a.priority, a.own) != std::tie(b.priority, b.own)
               ? std::tie(a.priority, a.own) > std::tie(b.priority, b.own)
               : Earlier(a, b);
  });
}

void Turns::ExchangeTurns() {
  std::vector<std::pair<int, int64_t>> turns;  // owner, negative priority: the first comes first
  turns.reserve(waiting_.size());
  for (const Waiting& waiting : waiting_) {
    turns.emplace_back(waiting.owner, -waiting.priority);
  }
  std::sort(turns.begin(), turns.end());
  std::sort(waiting_.begin(), waiting_.end(), [this](const Waiting& a, const Waiting& b) {
    if (a.owner != b.owner) {
      return a.owner < b.owner;
    }
    return a.own != b.own ? a.own > b.own : Earlier(a, b);
  });
  for (size_t i = 0; i < waiting_.size(); ++i) {
    waiting_[i].priority = -turns[i].second;
  }
}

bool Turns::Earlier(const Waiting& a, const Waiting& b) const {
  return a.create_time != b.create_time ? a.create_time < b.create_time : a.job->id < b.job->id;
}

void Turns::Push(int waiting) {
  fronts_.push_back({owners_.Share(waiting_[waiting].owner), waiting});
  // The heap's top is the one that no other goes before.
  std::push_heap(fronts_.begin(), fronts_.end(), [this](const Front& a, const Front& b) {
    return a.share != b.share ? a.share > b.share
                              : Earlier(waiting_[b.waiting], waiting_[a.waiting]);
  });
}

void Turns::OpenClass() {
  const int begin = end_of_class_;
  const int count = static_cast<int>(waiting_.size());
  while (end_of_class_ < count && waiting_[end_of_class_].priority == waiting_[begin].priority) {
    ++end_of_class_;
  }
  // From the back, so that every owner's list runs from its oldest job on.
  absl::flat_hash_map<int, int> firsts;
  for (int i = end_of_class_ - 1; i >= begin; --i) {
    const auto [first, is_new] = firsts.try_emplace(waiting_[i].owner, i);
    if (!is_new) {
      waiting_[i].next_of_owner = std::exchange(first->second, i);
    }
  }
  for (const auto& [owner, first] : firsts) {
    Push(first);
  }
}

Turns::Turn Turns::Next() {
  if (taken_ >= 0) {
    const int next = waiting_[std::exchange(taken_, -1)].next_of_owner;
    if (next >= 0) {
      Push(next);
    }
  }
  if (fronts_.empty()) {
    if (end_of_class_ == static_cast<int>(waiting_.size())) {
      return {};
    }
    OpenClass();
  }
  std::pop_heap(fronts_.begin(), fronts_.end(), [this](const Front& a, const Front& b) {
    return a.share != b.share ? a.share > b.share
                              : Earlier(waiting_[b.waiting], waiting_[a.waiting]);
  });
  taken_ = fronts_.back().waiting;
  fronts_.pop_back();
  return {waiting_[taken_].job, waiting_[taken_].owner, nullptr};
}

namespace {

// A job that was a head for too long.
struct Impatient {
  const QueuedJob* job;
  HeadHistory::Entry entry;
};

std::vector<Impatient> FindImpatient(const QueueState& state,
                                     const std::map<std::string, HeadHistory::Entry>& entries) {
  std::vector<Impatient> found;
  if (entries.empty()) {
    return found;
  }
  for (const QueuedJob* job : state.queued) {
    const auto entry = entries.find(job->id);
    if (entry != entries.end() && IsImpatient(entry->second, state.now) &&
        CanEverFit(*job, state.capacity)) {
      found.push_back({job, entry->second});
    }
  }
  // The one that has been waiting as a head for the longest time comes first.
  std::sort(found.begin(), found.end(), [](const Impatient& a, const Impatient& b) {
    return std::tie(a.entry.since, a.job->id) < std::tie(b.entry.since, b.job->id);
  });
  return found;
}

}  // namespace

void VisitInOrder(const QueueState& state,
                  Owners& owners,
                  absl::FunctionRef<bool(const Turns::Turn&)> visit) {
  std::vector<Impatient> impatient = FindImpatient(state, state.history.entries);
  // Whoever cores are kept for already goes before those that lost their patience since.
  std::stable_partition(impatient.begin(), impatient.end(), [&state](const Impatient& one) {
    return one.job->id == state.history.reserved;
  });
  absl::flat_hash_set<const QueuedJob*> visited;
  for (const Impatient& one : impatient) {
    const QueuedJob& reserved = *one.job;
    if (visited.contains(&reserved) || owners.HeldBack(owners.IndexOf(reserved.owner), reserved)) {
      continue;
    }
    std::vector<const QueuedJob*> ahead = {&reserved};
    const auto goes_first = [&](const QueuedJob& job) {
      if (job.owner == reserved.owner) {
        return job.priority > reserved.priority &&
               EffectivePriority(job, state.now) >= EffectivePriority(reserved, state.now);
      }
      const int32_t most = owners.max_priority();
      return std::min(job.priority, most) > std::min(reserved.priority, most) &&
             owners.SharedPriority(job, state.now) >= owners.SharedPriority(reserved, state.now);
    };
    for (const QueuedJob* job : state.queued) {
      if (one.entry.overtaken < kMaxOvertaken && goes_first(*job) && !visited.contains(job)) {
        ahead.push_back(job);
      }
    }
    Turns turns(ahead, state.capacity, state.now, owners);
    for (Turns::Turn turn = turns.Next(); turn.job != nullptr; turn = turns.Next()) {
      visited.insert(turn.job);
      turn.overtaken = turn.job == &reserved ? nullptr : &reserved;
      if (!visit(turn)) {
        return;
      }
      if (turn.job == &reserved) {
        break;
      }
    }
  }
  std::vector<const QueuedJob*> rest;
  if (!visited.empty()) {
    rest.reserve(state.queued.size());
    std::copy_if(state.queued.begin(), state.queued.end(), std::back_inserter(rest),
                 [&visited](const QueuedJob* job) { return !visited.contains(job); });
  }
  Turns turns(visited.empty() ? state.queued : absl::MakeConstSpan(rest), state.capacity, state.now,
              owners);
  for (Turns::Turn turn = turns.Next(); turn.job != nullptr; turn = turns.Next()) {
    if (!visit(turn)) {
      return;
    }
  }
}

void KeepRoomInQuotas(const QueueState& state, Owners& owners) {
  for (const Impatient& one : FindImpatient(state, state.history.held)) {
    const int owner = owners.IndexOf(one.job->owner);
    if (owners.kept(owner) == nullptr && owners.Allows(*one.job)) {
      owners.KeepRoom(owner, *one.job);
    }
  }
}

bool CanEverFit(const QueuedJob& job, const Capacity& capacity) {
  if (capacity.max_attempts > 0) {
    return true;
  }
  return job.cores <= static_cast<int>(capacity.cores.size()) &&
         job.memory_bytes <= capacity.memory_bytes;
}

bool IsImpatient(const HeadHistory::Entry& head, absl::Duration now) {
  return now - head.since >= kHeadPatience || head.passed_over >= kMaxPassedOver;
}

}  // namespace normlab::server
