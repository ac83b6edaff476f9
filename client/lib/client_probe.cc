// How Client looks at a server rather than using it.

#include "absl/time/clock.h"
#include "google/protobuf/empty.pb.h"
#include "google/protobuf/unknown_field_set.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/security/auth_context.h"

#include "client/lib/client.h"
#include "client/lib/connection.h"
#include "client/lib/rpc_error.h"
#include "common/status_macros.h"

namespace normlab::client {
namespace {

constexpr char kHealthMethod[] = "/grpc.health.v1.Health/Check";
constexpr char kCertificateProperty[] = "x509_pem_cert";
constexpr int kServing = 1;  // grpc.health.v1.HealthCheckResponse.SERVING

using google::protobuf::Empty;

// The field `status` of a HealthCheckResponse, whose stubs gRPC's packages do not have: what a
// message without fields does not know is kept.
ServerHealth ReadHealth(const Empty& response) {
  const google::protobuf::UnknownFieldSet& fields =
      response.GetReflection()->GetUnknownFields(response);
  for (int i = 0; i < fields.field_count(); ++i) {
    const google::protobuf::UnknownField& field = fields.field(i);
    if (field.number() == 1 && field.type() == google::protobuf::UnknownField::TYPE_VARINT) {
      return field.varint() == kServing ? ServerHealth::kServing : ServerHealth::kNotServing;
    }
  }
  return ServerHealth::kNotServing;
}

}  // namespace

absl::StatusOr<ServerProbe> Client::Probe() {
  NORMLAB_RETURN_IF_ERROR(usable_);
  ServerProbe probe;
  {
    grpc::ClientContext context;
    AddToken(options_.token, context);
    context.set_deadline(absl::ToChronoTime(absl::Now() + options_.timeout));
    probe.sent = absl::Now();
    const absl::Status status = FromGrpcStatus(server_->GetServerInfo(&context, {}, &probe.info));
    probe.received = absl::Now();
    if (!status.ok()) {
      return Explain(status);
    }
    if (const auto peer = context.auth_context(); peer != nullptr) {
      for (const grpc::string_ref& pem : peer->FindPropertyValues(kCertificateProperty)) {
        probe.certificate_pem.assign(pem.data(), pem.size());
      }
    }
  }
  grpc::TemplatedGenericStub<Empty, Empty> generic(channel_);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + options_.timeout));
  grpc::CompletionQueue queue;
  const auto call = generic.PrepareUnaryCall(&context, kHealthMethod, Empty(), &queue);
  call->StartCall();
  Empty response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);  // the deadline ends the wait
  probe.health = status.ok() ? ReadHealth(response) : ServerHealth::kUnknown;
  return probe;
}

}  // namespace normlab::client
