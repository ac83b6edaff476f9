// Why a job waits, in words.
#include <algorithm>
#include <map>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "server/domain/names.h"
#include "server/scheduler/policy.h"
#include "server/scheduler/queue_order.h"

namespace normlab::server {
namespace {

std::string Cores(int count) {
  return absl::StrCat(count, count == 1 ? " core" : " cores");
}

std::string Bytes(int64_t bytes) {
  constexpr double kGiB = 1 << 30;
  constexpr double kMiB = 1 << 20;
  const auto amount = static_cast<double>(bytes);
  return amount >= kGiB ? absl::StrFormat("%.1f GiB", amount / kGiB)
                        : absl::StrFormat("%.1f MiB", amount / kMiB);
}

std::string NeedsLargerServer(const QueuedJob& job, const Capacity& capacity) {
  return absl::StrCat(
      "waits for a larger server: needs ", Cores(job.cores), " and ", Bytes(job.memory_bytes),
      ", this one has ", Cores(static_cast<int>(capacity.cores.size())), " and ",
      Bytes(capacity.memory_bytes), " for jobs; cancel it, or have the server restarted with more");
}

std::string QuotaText(const QueuedJob& job,
                      const Sharing& sharing,
                      const Owners& owners,
                      int owner) {
  const std::string name = job.owner.empty() ? "its owner" : absl::StrCat("owner ", job.owner);
  if (sharing.owner_max_cores > 0 && job.cores > sharing.owner_max_cores) {
    return absl::StrCat("needs ", Cores(job.cores), ", but ", name, " may hold ",
                        sharing.owner_max_cores,
                        " at most; cancel it, or have the quota (--owner_max_cores) raised");
  }
  if (!owners.Exceeds(owner, job)) {
    return absl::StrCat("waits behind ", JobName(owners.kept(owner)->id),
                        ", for which the quota of ", name,
                        " is kept because it has waited so long");
  }
  if (sharing.owner_max_running > 0 && owners.running(owner) >= sharing.owner_max_running) {
    return absl::StrCat("waits for the quota of ", name, ": ", owners.running(owner), " of ",
                        sharing.owner_max_running, " jobs run");
  }
  return absl::StrCat("waits for the quota of ", name, ": ", owners.held_cores(owner), " of ",
                      Cores(sharing.owner_max_cores), " in use, it needs ", job.cores);
}

std::string ResourceText(const QueuedJob& job,
                         const FreeResources& free,
                         const Capacity& capacity,
                         int before,
                         const QueuedJob* reserved_for) {
  const std::string ahead =
      absl::StrCat(before, before == 1 ? " job before it" : " jobs before it");
  if (free.counts_attempts()) {
    if (!free.Fits(job)) {
      return absl::StrCat("waits to be handed over: ", capacity.max_attempts, " of ",
                          capacity.max_attempts, " attempts are, ", ahead);
    }
  } else if (job.cores > free.cores()) {
    return absl::StrCat("waits for ", Cores(job.cores), ": ", free.cores(), " of ",
                        capacity.cores.size(), " free, ", ahead);
  }
  if (!free.counts_attempts() && job.memory_bytes > free.memory_bytes()) {
    return absl::StrCat("waits for ", Bytes(job.memory_bytes),
                        " of memory: ", Bytes(std::max<int64_t>(free.memory_bytes(), 0)), " of ",
                        Bytes(capacity.memory_bytes), " free, ", ahead);
  }
  if (reserved_for != nullptr) {
    // Another owner's job does not exist for whoever may see this one.
    return absl::StrCat("waits behind ",
                        reserved_for->owner == job.owner ? JobName(reserved_for->id)
                                                         : std::string("another owner's job"),
                        ", which has waited so long that cores are kept for it; ", ahead);
  }
  return before == 0 ? std::string("is about to start")
                     : absl::StrCat("waits for its turn, ", ahead);
}

}  // namespace

std::map<std::string, std::string> ExplainQueue(const QueueState& state,
                                                absl::Span<const std::string> ids) {
  std::map<std::string, std::string> reasons;
  const absl::flat_hash_set<std::string> asked(ids.begin(), ids.end());
  for (const QueuedJob* job : state.queued) {
    if (asked.contains(job->id) && !CanEverFit(*job, state.capacity)) {
      reasons[job->id] = NeedsLargerServer(*job, state.capacity);
    }
  }
  const FreeResources free(state.capacity, state.running);
  // As if every job started in its turn: so the owners' jobs alternate as they will.
  Owners owners(state.sharing, state.running);
  Owners known(state.sharing, state.running);
  KeepRoomInQuotas(state, known);
  int before = 0;
  const QueuedJob* reserved_for = nullptr;
  VisitInOrder(state, owners, [&](const Turns::Turn& turn) {
    const QueuedJob& job = *turn.job;
    const int owner = known.IndexOf(job.owner);
    const bool held_back = known.HeldBack(owner, job);
    if (asked.contains(job.id)) {
      reasons[job.id] = held_back ? QuotaText(job, state.sharing, known, owner)
                                  : ResourceText(job, free, state.capacity, before, reserved_for);
    }
    if (held_back) {
      return true;
    }
    if (reserved_for == nullptr && !free.Fits(job)) {
      const auto head = state.history.entries.find(job.id);
      if (head != state.history.entries.end() && IsImpatient(head->second, state.now)) {
        reserved_for = &job;
      }
    }
    owners.Start(turn.owner, job);
    ++before;
    return true;
  });
  return reasons;
}

}  // namespace normlab::server
