#include "server/api/error_interceptor.h"

#include <string>

#include "absl/strings/string_view.h"
#include <grpcpp/support/interceptor.h>

#include "server/api/status.h"
#include "server/domain/access_errors.h"

namespace normlab::server {
namespace {

// Lives as long as one call; its hooks never run at the same time.
class ErrorInterceptor final : public grpc::experimental::Interceptor {
 public:
  explicit ErrorInterceptor(absl::string_view method) : method_(method) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using grpc::experimental::InterceptionHookPoints;
    // Of a unary or server-streaming call: the one request, null when it could not be parsed.
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_MESSAGE)) {
      parsed_ = methods->GetRecvMessage() != nullptr;
    }
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS) && !parsed_) {
      const grpc::Status status = methods->GetSendStatus();
      if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED &&
          status.error_details().empty()) {
        methods->ModifySendStatus(ToGrpcStatus(MalformedRequest(method_)));
      }
    }
    methods->Proceed();
  }

 private:
  const std::string method_;
  bool parsed_ = true;
};

class ErrorInterceptorFactory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    // A bidirectional stream (reflection) ends with "no message" too.
    return info->type() == grpc::experimental::ServerRpcInfo::Type::BIDI_STREAMING
               ? nullptr
               : new ErrorInterceptor(info->method());
  }
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> NewErrorInterceptors() {
  return std::make_unique<ErrorInterceptorFactory>();
}

}  // namespace normlab::server
