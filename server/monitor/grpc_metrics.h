#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include <grpcpp/support/server_interceptor.h>
#include <prometheus/registry.h>

namespace normlab::server {

// The counters of RPCs exactly as go-grpc-middleware names them, so that ready-made dashboards and
// alerts fit:
//
//   grpc_server_started_total        {grpc_type, grpc_service, grpc_method}
//   grpc_server_handled_total        {grpc_type, grpc_service, grpc_method, grpc_code}
//   grpc_server_msg_received_total   {grpc_type, grpc_service, grpc_method}
//   grpc_server_msg_sent_total       {grpc_type, grpc_service, grpc_method}
//   grpc_server_handling_seconds     {grpc_type, grpc_service, grpc_method}, a histogram
//
// Every method and code exists from the start at zero; a method that the server does not serve is
// not counted, so that no caller can make new time series. A stream's handling time is the life of
// its subscriber, not a latency: objectives select grpc_type="unary". Thread-safe. The registry
// must outlive it, and it the servers that use its interceptors.
class GrpcMetrics {
 public:
  struct Method {
    std::string service;  // normlab.v1.Jobs
    std::string method;   // CreateJob
    std::string type;     // unary, client_stream, server_stream, bidi_stream
  };
  struct Handles;

  GrpcMetrics(prometheus::Registry& registry, const std::vector<Method>& methods);
  ~GrpcMetrics();

  // Those of our own services, of health and of reflection.
  static std::vector<Method> ServedMethods();

  // For ServerBuilder::experimental().SetInterceptorCreators.
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>>
  MakeInterceptors();

  // Null for a method that is not served. `path`: "/normlab.v1.Jobs/CreateJob".
  const Handles* Find(absl::string_view path) const;

 private:
  absl::flat_hash_map<std::string, std::unique_ptr<Handles>> methods_;
};

}  // namespace normlab::server
