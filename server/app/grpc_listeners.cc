#include "server/app/grpc_listeners.h"

#include <sys/stat.h>

#include "absl/base/const_init.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include <grpcpp/ext/health_check_service_server_builder_option.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>

#include "server/api/error_interceptor.h"

#include "normlab/v1/experiments.grpc.pb.h"
#include "normlab/v1/jobs.grpc.pb.h"
#include "normlab/v1/normalization.grpc.pb.h"

namespace normlab::server {
namespace {

// Of a Normalize request: input and output gradient of 16 MiB each, and room for parameters, which may be
// as large together. (Larger ones are refused by gRPC itself, with RESOURCE_EXHAUSTED; every other request
// has its own, lower limits.)
constexpr int kMaxPublicMessageBytes = 64 << 20;
// A worker keeps at most 64 MiB of reports altogether.
constexpr int kMaxWorkerMessageBytes = 80 << 20;
// Several of a worker's large reports.
constexpr int kWorkerWindowBytes = 1 << 20;
// Of one connection. A honest client has a few calls at a time; one that opens more waits.
constexpr int kMaxStreamsPerConnection = 500;
// All headers of a call: a token, a deadline and what proxies add.
constexpr int kMaxMetadataBytes = 16 << 10;
// What the messages and buffers of all public connections may take before gRPC stops reading.
constexpr size_t kPublicQuotaBytes = size_t{512} << 20;
// For a new connection to say what it is. gRPC's default of two minutes lets strangers collect them.
constexpr int kHandshakeTimeoutMs = 10'000;
// A connection without a call for so long is closed; clients open another when they need it.
constexpr int kMaxConnectionIdleMs = 10 * 60 * 1000;
constexpr int kKeepaliveTimeMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
// A worker has one stream a connection.
constexpr int kMaxWorkerStreamsPerConnection = 4;
// What the messages and buffers of all workers of other machines may take before gRPC stops reading.
constexpr size_t kWorkerQuotaBytes = size_t{1} << 30;
// How often a client may ping without being told off.
constexpr int kMinPingIntervalMs = 5'000;

// Linking the reflection library adds reflection to every server of the process. Workers need none.
class NoPluginsOption final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments* /*arguments*/) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    plugins->clear();
  }
};

void SetCommonOptions(grpc::ServerBuilder& builder, GrpcMetrics& metrics) {
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  auto interceptors = metrics.MakeInterceptors();
  // In front, so that the metrics see the code that the caller sees.
  interceptors.insert(interceptors.begin(), NewErrorInterceptors());
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
}

void SetWorkerOptions(grpc::ServerBuilder& builder, GrpcMetrics& metrics) {
  SetCommonOptions(builder, metrics);
  builder.SetMaxReceiveMessageSize(kMaxWorkerMessageBytes);
  // Of a worker's connection there is no bandwidth to be found out: gRPC would answer every
  // report with a ping of its own, which wakes both ends once more. A window of fixed size does.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kWorkerWindowBytes);
  builder.SetOption(std::make_unique<grpc::HealthCheckServiceServerBuilderOption>(nullptr));
  builder.SetOption(std::make_unique<NoPluginsOption>());
}

}  // namespace

absl::StatusOr<PublicListener> StartPublicListener(
    const ListenAddress& address,
    std::shared_ptr<grpc::ServerCredentials> credentials,
    const std::vector<grpc::Service*>& services,
    GrpcMetrics& metrics) {
  const auto cannot_listen = [&address](absl::string_view why) {
    return absl::UnavailableError(absl::StrCat("cannot listen for gRPC on ", address.ToString(),
                                               ": ", why,
                                               "; choose another --listen, or port 0 for any free "
                                               "one"));
  };
  // Tried beforehand: gRPC itself would only complain, at length, to the log.
  if (const std::string why = WhyNotListening(address); address.port != 0 && !why.empty()) {
    return cannot_listen(why);
  }
  PublicListener listener;
  // Idempotent; also keeps the linker from dropping the library.
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  SetCommonOptions(builder, metrics);
  // gRPC's default lets two servers share one port unnoticed.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.SetMaxReceiveMessageSize(kMaxPublicMessageBytes);
  builder.SetMaxSendMessageSize(-1);  // what is answered has bounds of its own
  // Reflection is the one synchronous service.
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MAX_POLLERS, 1);
  builder.AddListeningPort(address.ToString(), std::move(credentials), &listener.port);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kMaxConnectionIdleMs);
  builder.SetResourceQuota(grpc::ResourceQuota("public").Resize(kPublicQuotaBytes));
  listener.unknown_methods = std::make_unique<UnknownMethodsService>();
  builder.RegisterCallbackGenericService(listener.unknown_methods.get());
  for (grpc::Service* service : services) {
    builder.RegisterService(service);
  }
  {
    // The switch for gRPC's own health service is global, and read while a server is built.
    static absl::Mutex mu(absl::kConstInit);
    absl::MutexLock lock(&mu);
    grpc::EnableDefaultHealthCheckService(true);
    listener.server = builder.BuildAndStart();
    grpc::EnableDefaultHealthCheckService(false);
  }
  if (listener.server == nullptr || listener.port == 0) {
    return cannot_listen("the address cannot be used");
  }
  SetServing(*listener.server, false);
  return listener;
}

void SetServing(grpc::Server& server, bool serving) {
  grpc::HealthCheckServiceInterface* health = server.GetHealthCheckService();
  // The empty name is the server as a whole.
  for (const char* service :
       {"", v1::Jobs::service_full_name(), v1::Experiments::service_full_name(),
        v1::Normalization::service_full_name(), v1::Server::service_full_name()}) {
    health->SetServingStatus(service, serving);
  }
}

absl::StatusOr<std::unique_ptr<grpc::Server>> StartWorkerListener(const std::string& socket_path,
                                                                  grpc::Service* service,
                                                                  GrpcMetrics& metrics) {
  grpc::ServerBuilder builder;
  SetWorkerOptions(builder, metrics);
  builder.AddListeningPort(absl::StrCat("unix:", socket_path), grpc::InsecureServerCredentials());
  builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot listen for workers on ", socket_path,
                                               "; remove that file if it is there"));
  }
  // The folder lets nobody else in; this is the second lock.
  chmod(socket_path.c_str(), 0600);
  return server;
}

absl::StatusOr<std::unique_ptr<grpc::Server>> StartRemoteWorkerListener(
    const RemoteWorkerOptions& options, grpc::Service* service, GrpcMetrics& metrics) {
  const auto cannot_listen = [&options](absl::string_view why) {
    return absl::UnavailableError(absl::StrCat("cannot listen for workers on ",
                                               options.address.ToString(), why,
                                               "; choose another --worker_listen"));
  };
  if (const std::string why = WhyNotListening(options.address); !why.empty()) {
    return cannot_listen(absl::StrCat(": ", why));
  }
  grpc::ServerBuilder builder;
  SetWorkerOptions(builder, metrics);
  const int patience_ms = static_cast<int>(absl::ToInt64Milliseconds(options.patience));
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, patience_ms);
  // A worker begins its call as soon as it is connected.
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, patience_ms);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxWorkerStreamsPerConnection);
  builder.SetResourceQuota(grpc::ResourceQuota("workers").Resize(kWorkerQuotaBytes));
  int port = 0;
  builder.AddListeningPort(options.address.ToString(), options.credentials, &port);
  builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return cannot_listen("");
  }
  return server;
}

}  // namespace normlab::server
