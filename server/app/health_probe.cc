#include "server/app/health_probe.h"

#include <utility>

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>

namespace normlab::server {
namespace {

constexpr char kMethod[] = "/grpc.health.v1.Health/Check";

// One call; ends itself.
struct Call {
  grpc::ClientContext context;
  grpc::ByteBuffer request;
  grpc::ByteBuffer response;
};

}  // namespace

struct HealthProbe::Impl {
  explicit Impl(grpc::Server& server) : stub(server.InProcessChannel({})) {}
  grpc::GenericStub stub;
};

HealthProbe::HealthProbe(grpc::Server& server) : impl_(std::make_unique<Impl>(server)) {}

HealthProbe::~HealthProbe() = default;

void HealthProbe::Ask(std::function<void()> done) {
  auto call = std::make_shared<Call>();
  // A request without a field: the server as a whole.
  const grpc::Slice empty;
  call->request = grpc::ByteBuffer(&empty, 1);
  impl_->stub.UnaryCall(&call->context, kMethod, {}, &call->request, &call->response,
                        [call, done = std::move(done)](const grpc::Status&) { done(); });
}

}  // namespace normlab::server
