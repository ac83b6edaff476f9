#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "server/api/unknown_methods.h"
#include "server/app/listen_address.h"
#include "server/monitor/grpc_metrics.h"

namespace normlab::server {

struct PublicListener {
  std::unique_ptr<UnknownMethodsService> unknown_methods;
  std::unique_ptr<grpc::Server> server;
  int port = 0;
};

// Listens for clients, with health checking (not serving until told) and reflection beside
// `services`. No other server can share the port. UNAVAILABLE, with the reason and what to do, when
// it cannot be listened on. Services and metrics must outlive the server.
absl::StatusOr<PublicListener> StartPublicListener(
    const ListenAddress& address,
    std::shared_ptr<grpc::ServerCredentials> credentials,
    const std::vector<grpc::Service*>& services,
    GrpcMetrics& metrics);

// What grpc.health.v1 answers for the server as a whole and for each service of a public listener.
void SetServing(grpc::Server& server, bool serving);

// Listens for workers on a Unix socket that only this user can open. Likewise.
absl::StatusOr<std::unique_ptr<grpc::Server>> StartWorkerListener(const std::string& socket_path,
                                                                  grpc::Service* service,
                                                                  GrpcMetrics& metrics);

// Where workers on other machines connect, and strangers may.
struct RemoteWorkerOptions {
  ListenAddress address;
  std::shared_ptr<grpc::ServerCredentials> credentials;
  // How long a connection may take to say what it is, and how long it may be without a call.
  absl::Duration patience = absl::Seconds(10);
};

// Listens for them, with memory of its own: whatever strangers send, this machine's workers and the
// clients do not feel it. `service` must refuse a stranger's call before it reads a message of it
// (WorkerService::Reach::kNetwork): until then a call has at most its window. Likewise.
absl::StatusOr<std::unique_ptr<grpc::Server>> StartRemoteWorkerListener(
    const RemoteWorkerOptions& options, grpc::Service* service, GrpcMetrics& metrics);

}  // namespace normlab::server
