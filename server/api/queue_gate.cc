#include "server/api/queue_gate.h"

#include "common/clock.h"
#include "common/status_macros.h"
#include "server/domain/queue_errors.h"

namespace normlab::server {
namespace {

// A job takes seconds at least; coming back sooner helps nobody.
constexpr absl::Duration kQueueRetry = absl::Seconds(10);
// What the store adds to a job at most: its name and experiment, times, progress.
constexpr int64_t kAddedBytes = 512;

}  // namespace

int64_t QueueGate::SpecBytes(const v1::Job& job) {
  return static_cast<int64_t>(job.ByteSizeLong()) + kAddedBytes;
}

absl::Status QueueGate::ReserveBytes(const std::string& owner, int64_t bytes) {
  if (limits_.bytes_per_owner == 0) {
    return absl::OkStatus();
  }
  const absl::Duration now = common::Clock::Real().Monotonic();
  const auto take = [this, bytes](Bytes& known) {
    const bool fits = known.stored + bytes <= limits_.bytes_per_owner;
    known.stored += fits ? bytes : 0;
    known.reserved += fits ? bytes : 0;
    return fits;
  };
  {
    absl::MutexLock lock(&mu_);
    Bytes& known = bytes_by_[owner];
    if (now - known.as_of < kBytesKeptFor && take(known)) {
      return absl::OkStatus();
    }
  }
  // Not under the lock, as it reads from disk.
  NORMLAB_ASSIGN_OR_RETURN(const int64_t stored, store_.QueuedBytes(owner));
  absl::MutexLock lock(&mu_);
  Bytes& known = bytes_by_[owner];
  // Some of the reserved ones may be stored by now: a little too much, for a second.
  known.stored = stored + known.reserved;
  known.as_of = now;
  return take(known) ? absl::OkStatus()
                     : OwnerQueueTooLarge(owner, {known.stored, bytes, limits_.bytes_per_owner},
                                          kQueueRetry);
}

absl::Status QueueGate::Reserve(const std::string& owner, int64_t jobs, int64_t bytes) {
  if (absl::Status place = ReserveBytes(owner, bytes); !place.ok()) {
    return place;
  }
  absl::Status place = ReserveJobs(owner, jobs);
  if (!place.ok() && limits_.bytes_per_owner > 0) {
    absl::MutexLock lock(&mu_);
    bytes_by_[owner].reserved -= bytes;
  }
  return place;
}

absl::Status QueueGate::RoomFor(int64_t jobs) {
  if (limits_.jobs == 0) {
    return absl::OkStatus();
  }
  int64_t queued = reserved_;
  for (const auto& [state, count] : store_.CountByState()) {
    queued += state == v1::Job::QUEUED ? count : 0;
  }
  return queued + jobs > limits_.jobs ? QueueFull({queued, jobs, limits_.jobs}, kQueueRetry)
                                      : absl::OkStatus();
}

absl::Status QueueGate::CheckResume() {
  absl::MutexLock lock(&mu_);
  return RoomFor(1);
}

absl::Status QueueGate::ReserveJobs(const std::string& owner, int64_t jobs) {
  absl::MutexLock lock(&mu_);
  if (absl::Status room = RoomFor(jobs); !room.ok()) {
    return room;
  }
  if (limits_.jobs_per_owner > 0) {
    const auto reserved = reserved_by_.find(owner);
    const int64_t taken = store_.CountJobs(owner, v1::Job::QUEUED) +
                          store_.CountJobs(owner, v1::Job::PAUSED) +
                          (reserved == reserved_by_.end() ? 0 : reserved->second);
    if (taken + jobs > limits_.jobs_per_owner) {
      return OwnerQueueFull(owner, {taken, jobs, limits_.jobs_per_owner}, kQueueRetry);
    }
  }
  reserved_ += jobs;
  reserved_by_[owner] += jobs;
  return absl::OkStatus();
}

void QueueGate::Release(const std::string& owner, int64_t jobs, int64_t bytes) {
  absl::MutexLock lock(&mu_);
  reserved_ -= jobs;
  if (limits_.bytes_per_owner > 0) {
    bytes_by_[owner].reserved -= bytes;
  }
  const auto reserved = reserved_by_.find(owner);
  if (reserved != reserved_by_.end() && (reserved->second -= jobs) == 0) {
    reserved_by_.erase(reserved);
  }
}

}  // namespace normlab::server
