#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"

namespace normlab::server {

// A job that waits for cores and memory.
struct QueuedJob {
  std::string id;
  std::string owner;
  int32_t priority = 0;
  absl::Time create_time;       // its age, which only orders; wall clock
  absl::Duration waited;        // in the queue, before it came into it last
  absl::Duration queued_since;  // when that was; monotonic
  int cores = 1;
  int64_t memory_bytes = 0;
};

// What a live attempt, or the process that is left of one, holds.
struct Reservation {
  std::vector<int> cores;
  int64_t memory_bytes = 0;
  std::string owner{};
};

struct Capacity {
  std::vector<int> cores;
  int64_t memory_bytes = 0;
  // Above 0: somebody else finds cores and memory, and only so many attempts are handed over at a time;
  // the fields above then mean nothing.
  int max_attempts = 0;
};

// What the policy remembers of jobs that were first in line without being able to start.
struct HeadHistory {
  struct Entry {
    absl::Duration since;  // when it first was the head; monotonic
    int passed_over = 0;   // jobs that were started past it since then
    int overtaken = 0;     // and of higher priority, although cores were kept for it
  };
  // Those that the machine had no room for, by job id.
  std::map<std::string, Entry> entries;
  // Those that their owner's quota had no room for: the first of each owner.
  std::map<std::string, Entry> held;
  // The job that cores are kept for; empty: none.
  std::string reserved{};
};

// How owners share the machine.
struct Sharing {
  std::map<std::string, double> usage;    // decayed core-seconds (ShareLedger); missing: none
  std::map<std::string, double> weights;  // above 0; missing: 1
  int owner_max_cores = 0;                // that one owner may hold; 0: no limit
  int owner_max_running = 0;              // jobs of one owner at a time; 0: no limit
  // More of a job's priority counts among its owner's jobs only.
  int32_t max_priority = std::numeric_limits<int32_t>::max();
};

struct StartAction {
  std::string id;
  std::vector<int> cores;  // lowest free ones, ascending
  int64_t memory_bytes = 0;
};

struct Decision {
  std::vector<StartAction> starts;  // in order; all of them fit together
  HeadHistory history;              // for the next call
};

// A head of the queue that has waited so long, or that so many jobs were started past, is passed by
// nothing any more.
inline constexpr absl::Duration kHeadPatience = absl::Seconds(60);
inline constexpr int kMaxPassedOver = 20;
// But for so many of higher priority.
inline constexpr int kMaxOvertaken = 20;
// A job gains one priority for so much waiting, which is why none starves.
inline constexpr absl::Duration kAgingPeriod = absl::Minutes(10);

// `priority` + 1 per kAgingPeriod that the job has waited in the queue: not while it ran or was
// paused. Whole numbers, so that the criteria after it count.
int64_t EffectivePriority(const QueuedJob& job, absl::Duration now);

// A core that an owner holds counts for its share as if it had been used so much longer: what was
// just started has used nothing yet, and one owner's jobs would take all that is free at once.
inline constexpr absl::Duration kShareAdvance = absl::Minutes(1);

// Everything a decision depends on. Does not own what it points to.
struct QueueState {
  absl::Span<const QueuedJob* const> queued;
  absl::Span<const Reservation> running;
  const Capacity& capacity;
  const HeadHistory& history;
  absl::Duration now;  // monotonic
  const Sharing& sharing;
};

// Decides what to start now. Pure; deterministic whatever the order of its arguments.
//
// Jobs are taken in the order of effective priority, then the owner's share (usage over weight, the
// least first), then age (then id). Of a priority only Sharing::max_priority counts between owners:
// nobody gets ahead of others by asking for it. What is above orders the owner's own jobs, which
// exchange their turns by it. The first that may run and does not fit is the head; jobs behind
// it may start past it (backfill) while the head is patient: nobody knows how long jobs run, so a
// fixed patience is what bounds the head's wait. After that cores are kept for it: nothing starts
// past it, and its turn comes before any other's, whoever is first in line by then, until it starts
// or leaves the queue. Only jobs of a higher priority of their own (not by ageing) that are before
// it in that order go first, kMaxOvertaken of them. Nothing is ever preempted. A job that is larger than the whole capacity
// is no head and waits for a larger server.
//
// A job that its owner's quota holds back is no head either: the others pass it, and it keeps no
// cores. Among its owner's jobs alone the same rules hold: the first one that the quota has no room
// for is passed while it is patient; after that room in the quota is kept for it. A job that is
// larger than the quota waits for a larger quota.
//
// Takes time proportional to the queue, with a logarithmic factor: some milliseconds for 10,000.
Decision Decide(const QueueState& state);

// The same for values.
Decision Decide(const std::vector<QueuedJob>& queued,
                const std::vector<Reservation>& running,
                const Capacity& capacity,
                const HeadHistory& history,
                absl::Duration now,
                const Sharing& sharing = {});

// What keeps each of `ids` waiting, as a sentence for people: "waits for 2 cores: 1 of 2 free, 3
// jobs before it". Ids that are not queued are left out. Pure.
std::map<std::string, std::string> ExplainQueue(const QueueState& state,
                                                absl::Span<const std::string> ids);

}  // namespace normlab::server
