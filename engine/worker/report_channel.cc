#include "engine/worker/report_channel.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/channel_arguments.h"

#include "common/clock.h"
#include "common/worker_hello.h"

namespace normlab::engine {
namespace {

constexpr int kKeepaliveMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
constexpr int kFirstBackoffMs = 100;
constexpr int kMaxBackoffMs = 1000;
// gRPC's name for how long one attempt to connect may take.
constexpr int kConnectTimeoutMs = 5000;
constexpr absl::Duration kOrderlyCloseTimeout = absl::Seconds(1);

absl::Duration Monotonic() {
  return common::Clock::Real().Monotonic();
}

std::shared_ptr<grpc::ChannelCredentials> MakeCredentials(const std::string& server_ca) {
  if (server_ca.empty()) {
    return grpc::InsecureChannelCredentials();
  }
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = server_ca;
  return grpc::SslCredentials(options);
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& target,
                                           const std::string& server_ca) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kFirstBackoffMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectTimeoutMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxBackoffMs);
  // A hung server is noticed. Pings without data stay within gRPC's default limit of two, so no
  // server objects.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  // Every connection is a channel of its own: no back-off state is inherited from the one before,
  // ours is the only one.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // No pings to find out the bandwidth of a socket on this machine.
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  // A proxy variable of the environment must not get between a worker and its server.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(target, MakeCredentials(server_ca), arguments);
}

absl::Status ToAbsl(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

// About what a report occupies, spare room of its columns included. (SpaceUsedLong goes through
// reflection over maps, which protobuf lays out differently under ThreadSanitizer.)
int64_t MemoryOf(const v1::WorkerReport& report) {
  constexpr int64_t kMessages = 512;
  constexpr int64_t kWord = 8;
  int64_t bytes = kMessages + static_cast<int64_t>(report.ByteSizeLong()) +
                  kWord * report.step_seconds().Capacity() / 2;
  for (const v1::Segment& segment : report.segments()) {
    const v1::MetricBlock& block = segment.metrics();
    bytes += kMessages + kWord * (block.steps().Capacity() + block.values().Capacity() +
                                  block.elapsed_us().Capacity());
  }
  return bytes;
}

// Whether the server said, for good, that it does not want this attempt.
bool IsFence(const absl::Status& status) {
  return absl::IsFailedPrecondition(status) || absl::IsUnauthenticated(status) ||
         absl::IsDataLoss(status);
}

}  // namespace

ReportChannel::ReportChannel(ReportChannelOptions options) : options_(std::move(options)) {
  thread_ = std::thread([this] { Run(); });
}

ReportChannel::~ReportChannel() {
  Close();
}

int64_t ReportChannel::Send(v1::WorkerReport report) {
  auto message = std::make_shared<v1::WorkerMessage>();
  *message->mutable_report() = std::move(report);
  absl::MutexLock lock(&mu_);
  const int64_t number = ++last_number_;
  message->mutable_report()->set_number(number);
  if (state_ != ChannelState::kOpen) {
    return number;
  }
  const int64_t bytes = MemoryOf(message->report());
  pending_bytes_ += bytes;
  pending_.push_back({number, bytes, std::move(message)});
  return number;
}

ReportChannel::Backlog ReportChannel::backlog() const {
  absl::MutexLock lock(&mu_);
  return {static_cast<int64_t>(pending_.size()), pending_bytes_};
}

ChannelState ReportChannel::state() const {
  absl::MutexLock lock(&mu_);
  return state_;
}

int64_t ReportChannel::committed_checkpoint_step() const {
  absl::MutexLock lock(&mu_);
  return committed_checkpoint_step_;
}

bool ReportChannel::WaitUntilAcknowledged(absl::Duration timeout) {
  absl::MutexLock lock(&mu_);
  changed_.WaitFor(mu_, timeout, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return pending_.empty() || state_ != ChannelState::kOpen;
  });
  return pending_.empty() && state_ == ChannelState::kOpen;
}

void ReportChannel::Close() {
  {
    absl::MutexLock lock(&mu_);
    closing_ = true;
    changed_.NotifyAll();
    if (state_ == ChannelState::kOpen) {
      state_ = ChannelState::kClosed;
    }
    if (context_ != nullptr && (!pending_.empty() || !welcomed_)) {
      context_->TryCancel();
    }
  }
  if (thread_.joinable()) {
    thread_.join();
  }
}

void ReportChannel::Run() {
  absl::Duration last_welcome = Monotonic();
  absl::Duration backoff = options_.first_backoff;
  while (true) {
    absl::Status status = RunStream();
    {
      absl::MutexLock lock(&mu_);
      if (closing_) {
        return;
      }
      if (!protocol_error_.ok()) {
        status = protocol_error_;
      }
      if (welcomed_) {
        last_welcome = Monotonic();
      }
      // A server that takes the hello but cannot store (a full disk) is not asked ten times a
      // second.
      if (acknowledged_) {
        backoff = options_.first_backoff;
      }
    }
    if (IsFence(status)) {
      End(ChannelState::kFenced, status);
      return;
    }
    if (Monotonic() - last_welcome >= options_.orphan_timeout) {
      End(ChannelState::kOrphaned, status);
      return;
    }
    if (options_.on_disconnect != nullptr) {
      options_.on_disconnect(status);
    }
    absl::MutexLock lock(&mu_);
    if (changed_.WaitFor(mu_, backoff,
                         [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return closing_; })) {
      return;
    }
    backoff = std::min(backoff * 2, options_.max_backoff);
  }
}

absl::Status ReportChannel::RunStream() {
  const std::shared_ptr<grpc::Channel> channel = MakeChannel(options_.target, options_.server_ca);
  const std::unique_ptr<Stub> stub = v1::Worker::NewStub(channel);
  grpc::ClientContext context;
  {
    absl::MutexLock lock(&mu_);
    welcomed_ = false;
    stream_ended_ = false;
    acknowledged_ = false;
    if (closing_) {
      return absl::CancelledError("closed");
    }
    context_ = &context;
  }
  v1::Hello proof = options_.hello;
  proof.clear_plan();
  context.AddMetadata(common::kHelloHeader, proof.SerializeAsString());
  // Not wait_for_ready: a connection that fails ends the call, and the pause before the next one is
  // ours.
  const std::unique_ptr<Stream> stream = stub->Report(&context);
  std::thread reader([&] { ReadUntilEnd(*stream); });
  WriteUntilEnd(*stream, context);
  reader.join();
  const grpc::Status status = stream->Finish();
  absl::MutexLock lock(&mu_);
  context_ = nullptr;
  return status.ok() ? absl::UnavailableError("the server ended the connection") : ToAbsl(status);
}

bool ReportChannel::StreamNeedsWriter() const {
  return stream_ended_ || (closing_ && pending_.empty()) ||
         (!pending_.empty() && pending_.back().number >= next_number_);
}

void ReportChannel::WriteUntilEnd(Stream& stream, grpc::ClientContext& context) {
  v1::WorkerMessage hello;
  *hello.mutable_hello() = options_.hello;
  if (!stream.Write(hello)) {
    return;  // the reader sees the end as well
  }
  {
    absl::MutexLock lock(&mu_);
    changed_.WaitFor(mu_, options_.welcome_timeout,
                     [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return WelcomeDecided(); });
    if (!welcomed_) {
      // Cancelling an ended stream could replace the server's own status, which says whether to try
      // again.
      if (!stream_ended_) {
        context.TryCancel();
      }
      return;
    }
  }
  while (true) {
    std::shared_ptr<const v1::WorkerMessage> message;
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(this, &ReportChannel::StreamNeedsWriter));
      if (stream_ended_) {
        return;
      }
      if (closing_) {
        break;
      }
      // Numbers in the queue are consecutive.
      const int64_t skipped = std::max<int64_t>(0, next_number_ - pending_.front().number);
      const Pending& next = pending_[static_cast<size_t>(skipped)];
      message = next.message;
      next_number_ = next.number + 1;
    }
    if (!stream.Write(*message)) {
      return;
    }
  }
  // Closing, with everything acknowledged: the server gets the chance to see an orderly end.
  stream.WritesDone();
  absl::MutexLock lock(&mu_);
  if (!changed_.WaitFor(mu_, kOrderlyCloseTimeout,
                        [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stream_ended_; })) {
    context.TryCancel();
  }
}

void ReportChannel::ReadUntilEnd(Stream& stream) {
  v1::ServerMessage message;
  while (stream.Read(&message)) {
    Handle(message);
  }
  absl::MutexLock lock(&mu_);
  stream_ended_ = true;
  changed_.NotifyAll();
}

void ReportChannel::Handle(const v1::ServerMessage& message) {
  switch (message.kind_case()) {
    case v1::ServerMessage::kWelcome: {
      absl::MutexLock lock(&mu_);
      if (message.welcome().last_report() > last_number_) {
        // Another process reported under our attempt's number: two writers, and we are the wrong
        // one.
        protocol_error_ = absl::FailedPreconditionError(
            absl::StrCat("the server has report ", message.welcome().last_report(),
                         " of this attempt, but only ", last_number_, " were made here"));
        context_->TryCancel();
        return;
      }
      DropUpTo(message.welcome().last_report());
      next_number_ = message.welcome().last_report() + 1;
      welcomed_ = true;
      changed_.NotifyAll();
      break;  // on_audience below, without the lock
    }
    case v1::ServerMessage::kAck: {
      absl::MutexLock lock(&mu_);
      // Never past what was written, whatever the server says.
      DropUpTo(std::min(message.ack().report(), next_number_ - 1));
      acknowledged_ = true;
      return;
    }
    case v1::ServerMessage::kStop:
      if (options_.on_stop != nullptr) {
        options_.on_stop(message.stop());
      }
      return;
    case v1::ServerMessage::kAudience:
      if (options_.on_audience != nullptr) {
        options_.on_audience(message.audience().watching());
      }
      return;
    case v1::ServerMessage::KIND_NOT_SET:
      return;  // of a later protocol version
  }
  // A welcome: what was said on the connection before does not hold any more.
  if (options_.on_audience != nullptr) {
    options_.on_audience(false);
  }
}

void ReportChannel::DropUpTo(int64_t number) {
  while (!pending_.empty() && pending_.front().number <= number) {
    const v1::WorkerReport& report = pending_.front().message->report();
    if (report.has_checkpoint()) {
      committed_checkpoint_step_ = report.checkpoint().step();
    }
    pending_bytes_ -= pending_.front().bytes;
    pending_.pop_front();
  }
  changed_.NotifyAll();
}

void ReportChannel::End(ChannelState state, const absl::Status& why) {
  {
    absl::MutexLock lock(&mu_);
    state_ = state;
    changed_.NotifyAll();
  }
  if (options_.on_end != nullptr) {
    options_.on_end(state, why);
  }
}

}  // namespace normlab::engine
