#pragma once

#include <string>

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
// there. Thread-safe.
class ServerInfoReader {
 public:
  explicit ServerInfoReader(Backend& backend);

  // Calls `done` on a thread of the pool or of the caller; never fails.
  void Read(absl::AnyInvocable<void(v1::ServerInfo) &&> done);

 private:
  v1::ServerInfo WithEngine(const v1::EngineInfo& engine) const;

  Backend& backend_;
  v1::ServerInfo base_;  // constant after construction
  absl::Mutex mu_;
  bool engine_known_ ABSL_GUARDED_BY(mu_) = false;
  v1::EngineInfo engine_ ABSL_GUARDED_BY(mu_);
};

}  // namespace normlab::server
