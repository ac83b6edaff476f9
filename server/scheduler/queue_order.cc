#include "server/scheduler/queue_order.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace normlab::server {

FreeResources::FreeResources(const Capacity& capacity, absl::Span<const Reservation> running)
    : cores_(capacity.cores.begin(), capacity.cores.end()), memory_bytes_(capacity.memory_bytes) {
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
  for (int i = 0; i < job.cores; ++i) {
    start.cores.push_back(*cores_.begin());
    cores_.erase(cores_.begin());
  }
  memory_bytes_ -= job.memory_bytes;
  return start;
}

Owners::Owners(const Sharing& sharing, absl::Span<const Reservation> running) : sharing_(sharing) {
  for (const Reservation& reservation : running) {
    Start(IndexOf(reservation.owner), static_cast<int>(reservation.cores.size()));
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

bool Owners::HeldBack(int owner, int cores) const {
  const Owner& held = owners_[owner];
  return (sharing_.owner_max_running > 0 && held.running >= sharing_.owner_max_running) ||
         (sharing_.owner_max_cores > 0 && held.cores + cores > sharing_.owner_max_cores);
}

double Owners::Share(int owner) const {
  const Owner& held = owners_[owner];
  return (held.usage + held.cores * absl::ToDoubleSeconds(kShareAdvance)) / held.weight;
}

void Owners::Start(int owner, int cores) {
  owners_[owner].cores += cores;
  ++owners_[owner].running;
}

Turns::Turns(const QueueState& state, Owners& owners) : owners_(owners) {
  waiting_.reserve(state.queued.size());
  for (const QueuedJob* job : state.queued) {
    if (CanEverFit(*job, state.capacity)) {
      waiting_.push_back({EffectivePriority(*job, state.now), job->create_time, job,
                          owners_.IndexOf(job->owner), -1});
    }
  }
  std::sort(waiting_.begin(), waiting_.end(), [this](const Waiting& a, const Waiting& b) {
    return a.priority != b.priority ? a.priority > b.priority : Earlier(a, b);
  });
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
  return {waiting_[taken_].job, waiting_[taken_].owner};
}

bool CanEverFit(const QueuedJob& job, const Capacity& capacity) {
  return job.cores <= static_cast<int>(capacity.cores.size()) &&
         job.memory_bytes <= capacity.memory_bytes;
}

bool IsImpatient(const HeadHistory::Entry& head, absl::Time now) {
  return now - head.since >= kHeadPatience || head.passed_over >= kMaxPassedOver;
}

}  // namespace normlab::server
