#include "server/monitor/grpc_metrics.h"

#include <array>
#include <chrono>

#include "absl/strings/str_cat.h"
#include <google/protobuf/descriptor.h>
#include <grpcpp/support/interceptor.h>
#include <prometheus/counter.h>
#include <prometheus/histogram.h>

#include "normlab/v1/experiments.pb.h"
#include "normlab/v1/jobs.pb.h"
#include "normlab/v1/normalization.pb.h"
#include "normlab/v1/worker.pb.h"

namespace normlab::server {
namespace {

// Names of grpc::StatusCode 0 to 16 as Go spells them.
constexpr std::array<const char*, 17> kCodeNames = {
    "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated"};

// From half a millisecond, where an in-memory answer is, to the deadline of a patient client.
// [seconds]
const std::vector<double>& HandlingBuckets() {
  static const auto& buckets = *new std::vector<double>{
      0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
  return buckets;
}

std::string TypeOf(const google::protobuf::MethodDescriptor& method) {
  if (method.client_streaming()) {
    return method.server_streaming() ? "bidi_stream" : "client_stream";
  }
  return method.server_streaming() ? "server_stream" : "unary";
}

}  // namespace

struct GrpcMetrics::Handles {
  prometheus::Counter* started = nullptr;
  prometheus::Counter* received = nullptr;
  prometheus::Counter* sent = nullptr;
  prometheus::Histogram* seconds = nullptr;
  std::array<prometheus::Counter*, kCodeNames.size()> handled{};
};

namespace {

// Lives as long as one RPC; its hooks never run at the same time.
class MetricsInterceptor final : public grpc::experimental::Interceptor {
 public:
  explicit MetricsInterceptor(const GrpcMetrics::Handles& handles) : handles_(handles) {
    handles_.started->Increment();
  }

  ~MetricsInterceptor() override {
    // A call whose client went away before a status could be sent.
    if (!handled_) {
      Handled(grpc::StatusCode::CANCELLED);
    }
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using grpc::experimental::InterceptionHookPoints;
    // A read at the end of a stream reports no message.
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_MESSAGE) &&
        methods->GetRecvMessage() != nullptr) {
      handles_.received->Increment();
    }
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_MESSAGE)) {
      handles_.sent->Increment();
    }
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      Handled(methods->GetSendStatus().error_code());
    }
    methods->Proceed();
  }

 private:
  void Handled(grpc::StatusCode code) {
    handled_ = true;
    const bool known = code >= 0 && static_cast<size_t>(code) < kCodeNames.size();
    handles_.handled[known ? code : grpc::StatusCode::UNKNOWN]->Increment();
    handles_.seconds->Observe(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count());
  }

  const GrpcMetrics::Handles& handles_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  bool handled_ = false;
};

class MetricsInterceptorFactory final
    : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit MetricsInterceptorFactory(const GrpcMetrics& metrics) : metrics_(metrics) {}

  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    const GrpcMetrics::Handles* handles = metrics_.Find(info->method());
    // gRPC owns the interceptor and accepts null for "not interested".
    return handles == nullptr ? nullptr : new MetricsInterceptor(*handles);
  }

 private:
  const GrpcMetrics& metrics_;
};

}  // namespace

std::vector<GrpcMetrics::Method> GrpcMetrics::ServedMethods() {
  std::vector<Method> methods;
  // Reached through messages of the same files, so that the linker keeps them.
  for (const google::protobuf::FileDescriptor* file :
       {v1::CreateJobRequest::descriptor()->file(),
        v1::CreateExperimentRequest::descriptor()->file(),
        v1::NormalizeRequest::descriptor()->file(), v1::WorkerMessage::descriptor()->file()}) {
    for (int i = 0; i < file->service_count(); ++i) {
      const google::protobuf::ServiceDescriptor& service = *file->service(i);
      for (int j = 0; j < service.method_count(); ++j) {
        const google::protobuf::MethodDescriptor& method = *service.method(j);
        methods.push_back({service.full_name(), method.name(), TypeOf(method)});
      }
    }
  }
  // Served by gRPC itself, without descriptors in this process.
  methods.push_back({"grpc.health.v1.Health", "Check", "unary"});
  methods.push_back({"grpc.health.v1.Health", "Watch", "server_stream"});
  methods.push_back(
      {"grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo", "bidi_stream"});
  return methods;
}

GrpcMetrics::GrpcMetrics(prometheus::Registry& registry, const std::vector<Method>& methods) {
  auto& started = prometheus::BuildCounter()
                      .Name("grpc_server_started_total")
                      .Help("Total number of RPCs started on the server.")
                      .Register(registry);
  auto& handled =
      prometheus::BuildCounter()
          .Name("grpc_server_handled_total")
          .Help("Total number of RPCs completed on the server, regardless of success or failure.")
          .Register(registry);
  auto& received = prometheus::BuildCounter()
                       .Name("grpc_server_msg_received_total")
                       .Help("Total number of RPC stream messages received on the server.")
                       .Register(registry);
  auto& sent = prometheus::BuildCounter()
                   .Name("grpc_server_msg_sent_total")
                   .Help("Total number of gRPC stream messages sent by the server.")
                   .Register(registry);
  auto& seconds = prometheus::BuildHistogram()
                      .Name("grpc_server_handling_seconds")
                      .Help(
                          "Histogram of response latency (seconds) of gRPC that had been "
                          "application-level handled by the server.")
                      .Register(registry);
  for (const Method& method : methods) {
    const prometheus::Labels labels = {{"grpc_type", method.type},
                                       {"grpc_service", method.service},
                                       {"grpc_method", method.method}};
    auto handles = std::make_unique<Handles>();
    handles->started = &started.Add(labels);
    handles->received = &received.Add(labels);
    handles->sent = &sent.Add(labels);
    handles->seconds = &seconds.Add(labels, HandlingBuckets());
    for (size_t code = 0; code < kCodeNames.size(); ++code) {
      prometheus::Labels with_code = labels;
      with_code["grpc_code"] = kCodeNames[code];
      handles->handled[code] = &handled.Add(with_code);
    }
    methods_.emplace(absl::StrCat("/", method.service, "/", method.method), std::move(handles));
  }
}

GrpcMetrics::~GrpcMetrics() = default;

std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>>
GrpcMetrics::MakeInterceptors() {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> creators;
  creators.push_back(std::make_unique<MetricsInterceptorFactory>(*this));
  return creators;
}

const GrpcMetrics::Handles* GrpcMetrics::Find(absl::string_view path) const {
  const auto it = methods_.find(path);
  return it == methods_.end() ? nullptr : it->second.get();
}

}  // namespace normlab::server
