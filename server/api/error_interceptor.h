#pragma once

#include <memory>

#include <grpcpp/support/server_interceptor.h>

namespace normlab::server {

// Makes an error of ours of those that gRPC answers by itself before any handler: a request that is
// no message of the method's type becomes INVALID_ARGUMENT with ErrorInfo instead of a bare
// UNIMPLEMENTED. What gRPC refuses below that (a message, or metadata, beyond the limits) cannot be
// changed here. For ServerBuilder::experimental().SetInterceptorCreators, in front of those that
// look at codes. Thread-safe.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> NewErrorInterceptors();

}  // namespace normlab::server
