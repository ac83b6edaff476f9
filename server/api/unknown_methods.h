#pragma once

#include <grpcpp/generic/async_generic_service.h>

namespace normlab::server {

// Answers every method that no other service of a listener has: UNIMPLEMENTED with ErrorInfo, where
// gRPC itself says nothing but the code. Reads nothing of what is sent. Thread-safe.
class UnknownMethodsService final : public grpc::CallbackGenericService {
 public:
  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override;
};

}  // namespace normlab::server
