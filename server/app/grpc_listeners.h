#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
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

// Where workers on other machines connect.
struct WorkerAddress {
  ListenAddress address;
  std::shared_ptr<grpc::ServerCredentials> credentials;
};

// Listens for workers on a Unix socket that only this user can open, and on `remote`, if there is one.
// Likewise.
absl::StatusOr<std::unique_ptr<grpc::Server>> StartWorkerListener(
    const std::string& socket_path,
    const std::optional<WorkerAddress>& remote,
    grpc::Service* service,
    GrpcMetrics& metrics);

}  // namespace normlab::server
