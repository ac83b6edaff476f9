#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/server.h"

#include "normlab/v1/worker.grpc.pb.h"

namespace normlab::engine {

// What the server's end of the worker protocol does with a report.
enum class Reaction {
  kAcknowledge,    // stored and acknowledged
  kStoreSilently,  // stored; acknowledged by a later one
  kStoreAndDrop,   // stored, then the connection breaks before the acknowledgement
  kLoseAndDrop,    // the connection breaks before it is stored
  kRefuse,         // FAILED_PRECONDITION
};

// A server of normlab.v1.Worker in this process, for tests: keeps what it stores across restarts,
// and misbehaves on command. Holds workers to the protocol: a report that leaves a number out is
// refused, and counted. Thread-safe.
class FakeServer {
 public:
  using Script = std::function<Reaction(const v1::WorkerReport&)>;

  explicit FakeServer(std::string socket_path);
  ~FakeServer();

  std::string target() const { return "unix:" + socket_path_; }

  // Listens; after a Stop, on the same path again.
  void Start();
  // Breaks all connections and goes away.
  void Stop();

  // Decides about each new report (not about repeated ones); default: acknowledge.
  void SetScript(Script script);
  // Answers the next hellos with this status.
  void RefuseHello(absl::Status status);
  // Sends StopRequest CANCEL on the connections there are and those to come.
  void RequestCancel();
  // The same with CHECKPOINT and this reason.
  void RequestCheckpoint(v1::FailureReason::Kind reason);

  // Waits until `condition` holds of what the server has seen. False: not within `timeout`.
  struct Seen {
    std::vector<v1::WorkerReport> reports;  // stored, in order
    std::vector<v1::Hello> hellos;
    std::vector<v1::Hello> header_hellos;  // as the headers of the calls have them
    int repeated = 0;                      // reports that were stored already
    int gaps = 0;                          // reports that left a number out
    bool finished = false;                 // a stream ended in an orderly way after an outcome
  };
  bool WaitFor(const std::function<bool(const Seen&)>& condition,
               absl::Duration timeout = absl::Seconds(30)) const;
  Seen seen() const;

 private:
  class Service;

  const std::string socket_path_;
  mutable absl::Mutex mu_;
  Seen seen_ ABSL_GUARDED_BY(mu_);
  Script script_ ABSL_GUARDED_BY(mu_);
  absl::Status refuse_hello_ ABSL_GUARDED_BY(mu_);
  v1::StopRequest stop_request_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
};

// All points of reports in their order, series by name.
struct UnpackedPoint {
  std::string series;
  int64_t step = 0;
  double value = 0;
  bool operator==(const UnpackedPoint&) const = default;
};
std::vector<UnpackedPoint> Unpack(const std::vector<v1::WorkerReport>& reports);

}  // namespace normlab::engine
