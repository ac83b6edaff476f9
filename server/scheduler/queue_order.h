#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

#include "server/scheduler/policy.h"

// The parts of the policy that deciding and explaining have in common. Internal to it.
namespace normlab::server {

// What is left of the capacity. Not thread-safe; a value on its own.
class FreeResources {
 public:
  FreeResources(const Capacity& capacity, absl::Span<const Reservation> running);

  bool Fits(const QueuedJob& job) const {
    return counts_attempts_
               ? attempts_ > 0
               : job.cores <= static_cast<int>(cores_.size()) && job.memory_bytes <= memory_bytes_;
  }
  StartAction Take(const QueuedJob& job);
  // Whether there is nothing for any job.
  bool IsUsedUp() const { return counts_attempts_ ? attempts_ <= 0 : cores_.empty(); }
  bool counts_attempts() const { return counts_attempts_; }
  int attempts() const { return attempts_; }
  int cores() const { return static_cast<int>(cores_.size()); }
  int64_t memory_bytes() const { return memory_bytes_; }

 private:
  bool counts_attempts_;
  int attempts_;
  std::set<int> cores_;
  int64_t memory_bytes_;
};

// Owners with what they hold and have used. Indexes are stable. Does not own the sharing.
class Owners {
 public:
  Owners(const Sharing& sharing, absl::Span<const Reservation> running);

  // The owner's index; made when it is new.
  int IndexOf(const std::string& owner);
  int count() const { return static_cast<int>(owners_.size()); }
  // Whether a quota keeps the owner from starting this job of its, or the room that is kept in it for
  // another one.
  bool HeldBack(int owner, const QueuedJob& job) const;
  // The quota without what is kept in it.
  bool Exceeds(int owner, const QueuedJob& job) const { return Exceeds(owner, job.cores, 1); }
  // Whether the owner may ever start it.
  bool Allows(const QueuedJob& job) const {
    return sharing_.owner_max_cores == 0 || job.cores <= sharing_.owner_max_cores;
  }
  // From now on the owner's other jobs of no higher priority leave room in the quota for this one,
  // until it starts.
  void KeepRoom(int owner, const QueuedJob& job) { owners_[owner].kept = &job; }
  const QueuedJob* kept(int owner) const { return owners_[owner].kept; }
  // Least goes first.
  double Share(int owner) const;
  void Start(int owner, const QueuedJob& job);
  // That counts between owners: EffectivePriority without what is above the maximum.
  int64_t SharedPriority(const QueuedJob& job, absl::Duration now) const;
  int32_t max_priority() const { return sharing_.max_priority; }
  int held_cores(int owner) const { return owners_[owner].cores; }
  int running(int owner) const { return owners_[owner].running; }

 private:
  struct Owner {
    double usage = 0;
    double weight = 1;
    int cores = 0;
    int running = 0;
    const QueuedJob* kept = nullptr;
  };
  void Hold(int owner, int cores);
  // Whether `cores` more and `jobs` more would be too much.
  bool Exceeds(int owner, int cores, int jobs) const;

  const Sharing& sharing_;
  std::vector<Owner> owners_;
  absl::flat_hash_map<std::string, int> indexes_;
};

// Hands out waiting jobs in the order of the policy: by effective priority as far as it counts between
// owners; within one, the next job of the owner with the least share at that moment; an owner's jobs
// by all of their effective priority, then age. Jobs that could never
// fit the capacity are left out. Refers to jobs and owners.
class Turns {
 public:
  struct Turn {
    const QueuedJob* job = nullptr;  // null: no more
    int owner = 0;
    // A job that cores are kept for, but which this one goes before; null: none.
    const QueuedJob* overtaken = nullptr;
  };

  Turns(absl::Span<const QueuedJob* const> queued,
        const Capacity& capacity,
        absl::Duration now,
        Owners& owners);
  // The share of the owner whose turn was last may have changed since; no other's.
  Turn Next();

 private:
  struct Waiting {
    int64_t priority;  // of the turn
    int64_t own;       // of the job, among its owner's
    absl::Time create_time;
    const QueuedJob* job;
    int owner;
    int next_of_owner;  // in waiting_, within the same priority; -1: none
  };
  struct Front {
    double share;
    int waiting;
  };
  // Puts the owner's first job at `waiting` up for the next turns.
  void Push(int waiting);
  // Takes up the next priority.
  void OpenClass();
  bool Earlier(const Waiting& a, const Waiting& b) const;
  // Gives the owners' turns to their jobs in the order of `own`.
  void ExchangeTurns();

  Owners& owners_;
  std::vector<Waiting> waiting_;  // sorted by priority, then age
  int end_of_class_ = 0;
  std::vector<Front> fronts_;  // a heap, one entry an owner
  int taken_ = -1;             // whose successor is to be pushed
};

// Calls `visit` for the waiting jobs that could ever fit, in the order of the policy, until it
// answers false: jobs that cores are kept for, with those of a higher priority that go before them,
// then the others by their turns. What `visit` starts, it tells `owners`.
void VisitInOrder(const QueueState& state,
                  Owners& owners,
                  absl::FunctionRef<bool(const Turns::Turn&)> visit);

// Has `owners` keep room for the jobs that their owners' quotas have held back for too long.
void KeepRoomInQuotas(const QueueState& state, Owners& owners);

// Whether a server of that capacity can ever run it.
bool CanEverFit(const QueuedJob& job, const Capacity& capacity);
// Whether nothing passes this head any more.
bool IsImpatient(const HeadHistory::Entry& head, absl::Duration now);

}  // namespace normlab::server
