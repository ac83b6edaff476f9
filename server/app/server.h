#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include <grpcpp/server.h>

#include "server/api/backend.h"
#include "server/api/experiments_service.h"
#include "server/api/services.h"
#include "server/api/stream_registry.h"
#include "server/api/unknown_methods.h"
#include "server/api/work_pool.h"
#include "server/api/worker_service.h"
#include "server/app/data_dir_lock.h"
#include "server/app/helper_gate.h"
#include "server/app/options.h"
#include "server/app/readiness_sampler.h"
#include "server/app/tls_keeper.h"
#include "server/app/watchdog.h"
#include "server/executor/executor.h"
#include "server/monitor/http_server.h"
#include "server/monitor/metrics.h"
#include "server/scheduler/controller.h"
#include "server/store/store.h"
#include "server/stream/hub.h"

namespace normlab::server {

// Parts that tests replace; null: the real one.
struct ServerParts {
  std::unique_ptr<Helper> helper;
  std::unique_ptr<Executor> executor;
  std::unique_ptr<Helper> normalizer;
  std::unique_ptr<Helper> starter;
};

// The whole of normlabd but its command line and signals: every part, wired in the order in which
// they depend on each other, with two gRPC listeners (clients; workers) and the HTTP one. Several
// can live in one process, with different data folders.
//
// Thread-safe: Shutdown by one thread, HurryUp by any.
class Server {
 public:
  // Returns when it is ready. Errors name the part and say what to do; nothing is left running
  // then.
  static absl::StatusOr<std::unique_ptr<Server>> Start(ServerOptions options,
                                                       ServerParts parts = {});
  // Shuts down, unless that was done.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // "127.0.0.1:7600", with the port that was taken.
  const std::string& grpc_address() const { return grpc_address_; }
  const std::string& http_address() const { return http_address_; }

  // OK while jobs are taken and started; else why not.
  absl::Status Ready();

  // What does the server's work, for a Watchdog that goes before Shutdown: scheduling, the database's
  // writer, handlers, streams, and gRPC, which is asked for its health.
  std::vector<Watchdog::Loop> Loops();

  // Drains and stops: health says NOT_SERVING, new jobs are refused, streams end with the position
  // to resume from, workers write a checkpoint and end; calls in progress and workers get until the
  // drain timeout, then everything is closed in order. Workers that need longer are left running and
  // report to the next server on the data folder.
  void Shutdown();
  // Makes a Shutdown, also a later one, skip its waiting.
  void HurryUp() { hurry_.store(true); }

 private:
  explicit Server(ServerOptions options) : options_(std::move(options)) {}

  absl::Status StartParts(ServerParts parts);
  absl::Status StartAuthorizer();
  absl::Status StartListeners();
  absl::Status WritePortFile();
  ServiceSample Sample();
  // Waits for streams and calls in progress.
  void WaitForCalls(absl::Duration deadline);
  // Waits until no worker is left.
  void WaitForWorkers(absl::Duration deadline);

  const ServerOptions options_;
  std::string socket_path_;
  std::string work_mark_;  // of the work folder
  absl::Mutex starts_mu_;
  absl::Status starts_ ABSL_GUARDED_BY(starts_mu_);  // what keeps jobs from being started
  std::string grpc_address_;
  std::string http_address_;
  std::atomic<bool> started_ = false;
  std::atomic<bool> draining_ = false;
  std::atomic<bool> hurry_ = false;
  bool down_ = false;  // Shutdown's thread only

  // In order of dependence: each uses only those above it, and they go in the opposite order.
  std::unique_ptr<DataDirLock> lock_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Authorizer> authorizer_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<Hub> hub_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<ReadinessSampler> readiness_;
  std::unique_ptr<WorkPool> pool_;
  std::unique_ptr<WorkPool> stream_pool_;
  std::unique_ptr<StreamRegistry> streams_;
  std::unique_ptr<HelperGate> helper_;
  std::unique_ptr<HelperGate> normalizer_;
  std::unique_ptr<HelperGate> starter_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Controller> controller_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<TlsKeeper> tls_;  // none: plaintext
  std::unique_ptr<TlsKeeper>
      worker_tls_;  // of workers on other machines, which show no certificates
  std::unique_ptr<WorkerService> worker_service_;
  std::unique_ptr<WorkerService> remote_worker_service_;  // of workers on other machines
  std::unique_ptr<JobsService> jobs_service_;
  std::unique_ptr<ExperimentsService> experiments_service_;
  std::unique_ptr<NormalizationService> normalization_service_;
  std::unique_ptr<ServerService> server_service_;
  std::unique_ptr<UnknownMethodsService> unknown_methods_;
  std::unique_ptr<grpc::Server> worker_listener_;
  std::unique_ptr<grpc::Server> remote_worker_listener_;
  std::unique_ptr<grpc::Server> public_listener_;
};

}  // namespace normlab::server
