#pragma once

#include <functional>
#include <memory>

#include <grpcpp/server.h>

namespace normlab::server {

// Calls grpc.health.v1.Health/Check of a server of this process, on a channel that never leaves it:
// what is asked is whether gRPC still runs calls, whatever the server's credentials. Thread-safe.
class HealthProbe {
 public:
  // To be destroyed before `server` is shut down.
  explicit HealthProbe(grpc::Server& server);
  ~HealthProbe();
  HealthProbe(const HealthProbe&) = delete;
  HealthProbe& operator=(const HealthProbe&) = delete;

  // Does not block; `done` runs when an answer has come, whatever it says, or the probe's end has
  // cancelled the call.
  void Ask(std::function<void()> done);

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace normlab::server
