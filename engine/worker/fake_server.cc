#include "engine/worker/fake_server.h"

#include <cstdlib>
#include <iostream>
#include <map>
#include <thread>
#include <utility>

#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"

#include "common/worker_hello.h"

namespace normlab::engine {

class FakeServer::Service : public v1::Worker::Service {
 public:
  explicit Service(FakeServer& fake) : fake_(fake) {}

  grpc::Status Report(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::ServerMessage, v1::WorkerMessage>* stream) override {
    const auto header = context->client_metadata().find(common::kHelloHeader);
    v1::Hello proof;
    if (header == context->client_metadata().end() ||
        !proof.ParseFromArray(header->second.data(), static_cast<int>(header->second.size()))) {
      return {grpc::StatusCode::UNAUTHENTICATED, "the headers have no hello"};
    }
    {
      absl::MutexLock lock(&fake_.mu_);
      fake_.seen_.header_hellos.push_back(std::move(proof));
    }
    // Tells a connected worker to stop as soon as that is wanted, while the other direction waits
    // for reports.
    bool ended = false;
    absl::Mutex write_mu;
    std::thread stopper;
    const grpc::Status status = Serve(*stream, write_mu, ended, stopper);
    {
      absl::MutexLock lock(&fake_.mu_);
      ended = true;
    }
    if (stopper.joinable()) {
      stopper.join();
    }
    return status;
  }

 private:
  using Stream = grpc::ServerReaderWriter<v1::ServerMessage, v1::WorkerMessage>;

  grpc::Status Serve(Stream& stream, absl::Mutex& write_mu, bool& ended, std::thread& stopper) {
    v1::WorkerMessage message;
    if (!stream.Read(&message) || !message.has_hello()) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "the first message must be a hello"};
    }
    v1::ServerMessage welcome;
    {
      absl::MutexLock lock(&fake_.mu_);
      fake_.seen_.hellos.push_back(message.hello());
      if (!fake_.refuse_hello_.ok()) {
        return {static_cast<grpc::StatusCode>(fake_.refuse_hello_.code()),
                std::string(fake_.refuse_hello_.message())};
      }
      welcome.mutable_welcome()->set_last_report(static_cast<int64_t>(fake_.seen_.reports.size()));
    }
    Write(stream, write_mu, welcome);
    stopper = std::thread([&] {
      {
        absl::MutexLock lock(&fake_.mu_);
        const auto ready = [&] { return fake_.stop_request_.kind() != 0 || ended; };
        fake_.mu_.Await(absl::Condition(&ready));
        if (ended) {
          return;
        }
      }
      v1::ServerMessage stop;
      {
        absl::MutexLock lock(&fake_.mu_);
        *stop.mutable_stop() = fake_.stop_request_;
      }
      Write(stream, write_mu, stop);
    });
    while (stream.Read(&message)) {
      switch (Take(message.report())) {
        case Reaction::kAcknowledge: {
          v1::ServerMessage ack;
          ack.mutable_ack()->set_report(message.report().number());
          Write(stream, write_mu, ack);
          break;
        }
        case Reaction::kStoreSilently:
          break;
        case Reaction::kStoreAndDrop:
        case Reaction::kLoseAndDrop:
          return {grpc::StatusCode::UNAVAILABLE, "dropped by the test"};
        case Reaction::kRefuse:
          return {grpc::StatusCode::FAILED_PRECONDITION, "this attempt is over"};
      }
    }
    absl::MutexLock lock(&fake_.mu_);
    fake_.seen_.finished = !fake_.stopping_ && !fake_.seen_.reports.empty() &&
                           fake_.seen_.reports.back().has_outcome();
    return grpc::Status::OK;
  }

  Reaction Take(const v1::WorkerReport& report) {
    absl::MutexLock lock(&fake_.mu_);
    const auto stored = static_cast<int64_t>(fake_.seen_.reports.size());
    if (report.number() <= stored) {
      ++fake_.seen_.repeated;
      return Reaction::kAcknowledge;
    }
    if (report.number() != stored + 1) {
      ++fake_.seen_.gaps;
      return Reaction::kRefuse;
    }
    const Reaction reaction = fake_.script_ ? fake_.script_(report) : Reaction::kAcknowledge;
    if (reaction != Reaction::kLoseAndDrop && reaction != Reaction::kRefuse) {
      fake_.seen_.reports.push_back(report);
    }
    return reaction;
  }

  static void Write(Stream& stream, absl::Mutex& write_mu, const v1::ServerMessage& message) {
    absl::MutexLock lock(&write_mu);
    // A worker that is gone shows in Read as well.
    static_cast<void>(stream.Write(message));
  }

  FakeServer& fake_;
};

FakeServer::FakeServer(std::string socket_path) : socket_path_(std::move(socket_path)) {}

FakeServer::~FakeServer() {
  Stop();
}

void FakeServer::Start() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = false;
  }
  service_ = std::make_unique<Service>(*this);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(target(), grpc::InsecureServerCredentials());
  builder.RegisterService(service_.get());
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) {
    std::cerr << "cannot listen on " << target() << "\n";
    std::abort();
  }
}

void FakeServer::Stop() {
  if (server_ == nullptr) {
    return;
  }
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  // A deadline in the past cancels every call at once.
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
  service_.reset();
}

void FakeServer::SetScript(Script script) {
  absl::MutexLock lock(&mu_);
  script_ = std::move(script);
}

void FakeServer::RefuseHello(absl::Status status) {
  absl::MutexLock lock(&mu_);
  refuse_hello_ = std::move(status);
}

void FakeServer::RequestCancel() {
  absl::MutexLock lock(&mu_);
  stop_request_.set_kind(v1::StopRequest::CANCEL);
}

void FakeServer::RequestCheckpoint(v1::FailureReason::Kind reason) {
  absl::MutexLock lock(&mu_);
  stop_request_.set_kind(v1::StopRequest::CHECKPOINT);
  stop_request_.set_reason(reason);
}

bool FakeServer::WaitFor(const std::function<bool(const Seen&)>& condition,
                         absl::Duration timeout) const {
  absl::MutexLock lock(&mu_);
  const auto ready = [&]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return condition(seen_); };
  return mu_.AwaitWithTimeout(absl::Condition(&ready), timeout);
}

FakeServer::Seen FakeServer::seen() const {
  absl::MutexLock lock(&mu_);
  return seen_;
}

std::vector<UnpackedPoint> Unpack(const std::vector<v1::WorkerReport>& reports) {
  std::map<uint32_t, std::string> names;
  std::vector<UnpackedPoint> points;
  for (const v1::WorkerReport& report : reports) {
    for (const v1::Series& series : report.new_series()) {
      names[series.id()] = series.name();
    }
    for (const v1::Segment& segment : report.segments()) {
      const v1::MetricBlock& block = segment.metrics();
      for (int row = 0; row < block.steps_size(); ++row) {
        for (int column = 0; column < block.series_size(); ++column) {
          points.push_back({names.at(block.series(column)), block.steps(row),
                            block.values(row * block.series_size() + column)});
        }
      }
    }
  }
  return points;
}

}  // namespace normlab::engine
