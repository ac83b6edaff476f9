#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

#include "common/clock.h"
#include "common/steady_wait.h"
#include "server/store/connection.h"
#include "server/store/live_job.h"
#include "server/store/write_op.h"

namespace normlab::server {

// The one thread that writes. As soon as it is free it takes everything queued, commits it as one
// transaction, and answers. A failing transaction of several operations is repeated one by one, so
// that what still fits on the disk gets through; while commits fail it tries again every second.
// Thread-safe.
class Writer {
 public:
  // Called on the writer thread after a commit, before the operations are answered.
  using AfterCommit = std::function<void(const Effects& effects, double seconds, int operations)>;

  Writer(std::unique_ptr<Connection> connection,
         const common::Clock& clock,
         AfterCommit after_commit);
  // Closes.
  ~Writer();

  // Queues an operation; answers it at once, on this thread, after Close or when far too many wait.
  void Submit(std::unique_ptr<WriteOp> op) ABSL_LOCKS_EXCLUDED(mu_);

  // Something stored cannot be read: health says so until a while has passed without it.
  void NoteDamage(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mu_);

  // OK, or why the last commit failed, or what was found damaged lately.
  absl::Status Health() const ABSL_LOCKS_EXCLUDED(mu_);

  // Commits everything queued and ends the thread. Not from a callback.
  void Close() ABSL_LOCKS_EXCLUDED(mu_, close_mu_);

  // The thread's connection: for the caller once Close has returned.
  Connection& connection() { return *connection_; }

 private:
  using Ops = std::vector<std::unique_ptr<WriteOp>>;

  void Run() ABSL_LOCKS_EXCLUDED(mu_);
  // Commits ops[begin, end) as one transaction and answers them; a failure is only returned, with
  // nothing answered.
  absl::Status CommitAndAnswer(Ops& ops, size_t begin, size_t end) ABSL_LOCKS_EXCLUDED(mu_);
  void CommitBatch(Ops& ops) ABSL_LOCKS_EXCLUDED(mu_);
  void Probe() ABSL_LOCKS_EXCLUDED(mu_);
  void SetHealth(absl::Status status) ABSL_LOCKS_EXCLUDED(mu_);

  // Of the thread only.
  const std::unique_ptr<Connection> connection_;
  LiveJobs live_jobs_;
  const common::Clock& clock_;
  const AfterCommit after_commit_;

  mutable absl::Mutex mu_;
  common::SteadyWait woken_;
  Ops queue_ ABSL_GUARDED_BY(mu_);
  bool closing_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status health_ ABSL_GUARDED_BY(mu_);
  absl::Status damage_ ABSL_GUARDED_BY(mu_);
  absl::Duration damage_seen_ ABSL_GUARDED_BY(mu_) = -absl::InfiniteDuration();

  absl::Mutex close_mu_ ABSL_ACQUIRED_BEFORE(mu_);
  std::thread thread_;
};

}  // namespace normlab::server
