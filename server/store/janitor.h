#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/clock.h"
#include "common/steady_wait.h"
#include "server/store/read_pool.h"
#include "server/store/wall_clock_watch.h"
#include "server/store/write_op.h"

namespace normlab::server {

struct JanitorOptions {
  std::string work_dir;  // below which jobs have their files; empty: they have none
  absl::Duration retention = absl::InfiniteDuration();
  const common::Clock* clock = &common::Clock::Real();
  std::function<void(std::unique_ptr<WriteOp>)> submit;
};

// Removes what nobody needs any more, on a thread of its own and in small commits between those of
// others: jobs beyond the retention, the remains of deleted ones with their files, checkpoints that
// later attempts made useless, old request ids, unused pages. Every minute, and at once after a deletion. Thread-safe; `reads` must outlive it.
class Janitor {
 public:
  Janitor(JanitorOptions options, ReadPool& reads);
  ~Janitor() { Stop(); }

  // Begins to work. Once, when whoever its commits wake can find it.
  void Start();

  // Ends the thread, within one small commit, and makes RunOnce do nothing more. By one thread.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

  // There is something to remove. Does not block.
  void Wake() ABSL_LOCKS_EXCLUDED(mu_);

  // Checkpoints of attempts before the given ones, by job id, are not needed any more: their folders
  // go. Does not block. What a crash leaves of them goes with the attempt's next checkpoint, or with
  // the job.
  void RemoveCheckpoints(const absl::flat_hash_map<std::string, int32_t>& before_attempts)
      ABSL_LOCKS_EXCLUDED(mu_);

  // Does everything that is due now, on this thread; the first thing that failed.
  absl::Status RunOnce() ABSL_LOCKS_EXCLUDED(run_mu_);

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mu_);
  bool stopping() const ABSL_LOCKS_EXCLUDED(mu_);
  // Commits `change` and waits. Whether it answered that there may be more to do.
  absl::StatusOr<bool> Commit(std::function<absl::StatusOr<bool>(WriteContext&, Effects&)> change);
  // The same again and again while there is more.
  absl::Status CommitAll(std::function<absl::StatusOr<bool>(WriteContext&, Effects&)> change);
  absl::Status MarkJobsOfExperiments();
  absl::Status RemoveRemains();
  absl::Status RemoveSupersededCheckpoints() ABSL_LOCKS_EXCLUDED(mu_);

  const JanitorOptions options_;
  ReadPool& reads_;
  WallClockWatch wall_clock_;
  absl::Mutex run_mu_;  // one round at a time
  mutable absl::Mutex mu_;
  common::SteadyWait woken_;
  bool wake_ ABSL_GUARDED_BY(mu_) = false;
  absl::flat_hash_map<std::string, int32_t> superseded_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace normlab::server
