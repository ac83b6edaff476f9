#pragma once

#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "server/api/backend.h"

#include "normlab/v1/jobs.pb.h"
#include "normlab/v1/worker.pb.h"

namespace normlab::server {

// Answers GetServerInfo. What the engine knows (instruction set, oneDNN's version) comes from the
// helper, once; while the helper cannot answer, those two fields are empty and everything else is
// there. Disks are looked at once a second at most, on a thread of the pool, because a network file
// system may take its time; a call meanwhile has the figures before. Thread-safe.
class ServerInfoReader {
 public:
  explicit ServerInfoReader(Backend& backend);

  // Calls `done` on a thread of the pool or of the caller; never fails.
  void Read(absl::AnyInvocable<void(v1::ServerInfo) &&> done);

 private:
  // Looks at the disks, then answers. On a thread of the pool.
  void SampleAndAnswer(const v1::EngineInfo& engine,
                       absl::AnyInvocable<void(v1::ServerInfo) &&> done) ABSL_LOCKS_EXCLUDED(mu_);
  // The answer, with the disks as last seen.
  v1::ServerInfo Answer(const v1::EngineInfo& engine) ABSL_LOCKS_EXCLUDED(mu_);

  Backend& backend_;
  v1::ServerInfo base_;  // constant after construction
  absl::Mutex mu_;
  bool engine_known_ ABSL_GUARDED_BY(mu_) = false;
  v1::EngineInfo engine_ ABSL_GUARDED_BY(mu_);
  std::vector<v1::Disk> disks_ ABSL_GUARDED_BY(mu_);
  absl::Duration sampled_at_ ABSL_GUARDED_BY(mu_);  // of the monotonic clock
  bool sampling_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace normlab::server
