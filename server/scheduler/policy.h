#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace normlab::server {

// A job that waits for cores and memory.
struct QueuedJob {
  std::string id;
  std::string owner;
  int32_t priority = 0;
  absl::Time create_time;  // its age; wall clock
  int cores = 1;
  int64_t memory_bytes = 0;
};

// What a live attempt, or the process that is left of one, holds.
struct Reservation {
  std::vector<int> cores;
  int64_t memory_bytes = 0;
};

struct Capacity {
  std::vector<int> cores;
  int64_t memory_bytes = 0;
};

// What the policy remembers of jobs that headed the queue without fitting.
struct HeadHistory {
  struct Entry {
    absl::Time since;     // when it first was the head
    int passed_over = 0;  // jobs that were started past it since then
  };
  std::map<std::string, Entry> entries;
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
// A job gains one priority for so much waiting, which is why none starves.
inline constexpr absl::Duration kAgingPeriod = absl::Minutes(10);

// `priority` + 1 per kAgingPeriod that the job has waited. Whole numbers, so that the criteria
// after it count.
int64_t EffectivePriority(const QueuedJob& job, absl::Time now);

// Decides what to start now. Pure; deterministic whatever the order of its arguments.
//
// Jobs are taken in the order of effective priority, then age (then id). The first that does not
// fit is the head; jobs behind it may start past it (backfill) while the head is patient: nobody
// knows how long jobs run, so a fixed patience is what bounds the head's wait. After that its turn
// comes before any other's, as running jobs end. Nothing is ever preempted. A job that is larger
// than the whole capacity is no head and waits for a larger server.
Decision Decide(const std::vector<QueuedJob>& queued,
                const std::vector<Reservation>& running,
                const Capacity& capacity,
                const HeadHistory& history,
                absl::Time now);

}  // namespace normlab::server
