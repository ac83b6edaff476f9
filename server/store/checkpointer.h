#pragma once

#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

#include "common/steady_wait.h"
#include "server/store/connection.h"

namespace normlab::server {

// Moves committed pages from the write-ahead log into the database on a thread of its own, so that
// no commit waits for it. Thread-safe.
class Checkpointer {
 public:
  explicit Checkpointer(std::unique_ptr<Connection> connection);
  // Stops without a last checkpoint.
  ~Checkpointer();

  // The log has so many pages now. Cheap; called by the writer after each commit.
  void LogGrew(int pages) ABSL_LOCKS_EXCLUDED(mu_);
  // OK, or why the last checkpoint failed; a failed one is repeated every second.
  absl::Status Health() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Checkpoint(int pages);
  absl::Status RunMode(int mode);

  const std::unique_ptr<Connection> connection_;  // used by the thread only
  mutable absl::Mutex mu_;
  common::SteadyWait stopped_;
  int pages_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status health_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;
};

}  // namespace normlab::server
