#include "server/api/unknown_methods.h"

#include "server/api/status.h"
#include "server/domain/access_errors.h"

namespace normlab::server {
namespace {

class Refusal final : public grpc::ServerGenericBidiReactor {
 public:
  explicit Refusal(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerGenericBidiReactor* UnknownMethodsService::CreateReactor(
    grpc::GenericCallbackServerContext* context) {
  return new Refusal(ToGrpcStatus(UnknownMethod(context->method())));
}

}  // namespace normlab::server
