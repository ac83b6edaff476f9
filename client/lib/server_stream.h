#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/support/async_stream.h"

#include "client/lib/rpc_error.h"

namespace normlab::client {

// One server stream, read by one thread that waits with a limit: a silent connection (a frozen
// server, a cable pulled) shows as an error instead of a read that never returns. Not thread-safe,
// but a stop request on another thread ends a waiting Read. The destructor cancels what still runs.
template <typename Response>
class ServerStream {
 public:
  using Starter = std::function<std::unique_ptr<grpc::ClientAsyncReader<Response>>(
      grpc::ClientContext*, grpc::CompletionQueue*)>;

  // `starter` calls a stub's PrepareAsync... method.
  ServerStream(const Starter& starter, const std::stop_token& stop)
      : reader_(starter(&context_, &queue_)) {
    reader_->StartCall(this);
    stop_callback_.emplace(stop, Cancel{&context_});
  }

  ServerStream(const ServerStream&) = delete;
  ServerStream& operator=(const ServerStream&) = delete;

  ~ServerStream() {
    if (!finished_) {
      context_.TryCancel();
      Finish().IgnoreError();  // nobody asks any more
    }
    stop_callback_.reset();
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  // The next message. False: the stream is over; ask Finish why. Nothing for `idle_timeout` counts
  // as an end with UNAVAILABLE.
  // `on_tick` (may be null) is called some times a second while it waits.
  bool Read(Response* response,
            absl::Duration idle_timeout,
            const std::function<void()>& on_tick = nullptr) {
    if (finished_) {
      return false;
    }
    const absl::Time deadline = absl::Now() + idle_timeout;
    if (!started_) {
      started_ = true;
      if (!WaitForTag(deadline, on_tick)) {
        return false;
      }
    }
    reader_->Read(response, this);
    return WaitForTag(deadline, on_tick);
  }

  // How the stream ended. Call it once, after Read returned false.
  absl::Status Finish() {
    grpc::Status status;
    if (!started_) {
      started_ = true;
      WaitForTag(absl::InfiniteFuture(), nullptr);
    }
    reader_->Finish(&status, this);
    WaitForTag(absl::InfiniteFuture(), nullptr);
    finished_ = true;
    return idle_ ? absl::UnavailableError("the server sent nothing for too long")
                 : FromGrpcStatus(status);
  }

 private:
  struct Cancel {
    grpc::ClientContext* context;
    void operator()() const { context->TryCancel(); }
  };

  // Waits for the one operation under way; true when it succeeded.
  bool WaitForTag(absl::Time deadline, const std::function<void()>& on_tick) {
    constexpr absl::Duration kTick = absl::Milliseconds(200);
    void* tag = nullptr;
    bool ok = false;
    while (true) {
      const absl::Time limit =
          on_tick == nullptr ? deadline : std::min(deadline, absl::Now() + kTick);
      const auto chrono_limit = limit == absl::InfiniteFuture()
                                    ? std::chrono::system_clock::time_point::max()
                                    : absl::ToChronoTime(limit);
      if (queue_.AsyncNext(&tag, &ok, chrono_limit) != grpc::CompletionQueue::TIMEOUT) {
        return ok;
      }
      if (absl::Now() >= deadline) {
        idle_ = true;
        context_.TryCancel();
        queue_.Next(&tag, &ok);  // the cancelled operation comes back at once
        return false;
      }
      if (on_tick != nullptr) {
        on_tick();
      }
    }
  }

  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::ClientAsyncReader<Response>> reader_;
  std::optional<std::stop_callback<Cancel>> stop_callback_;
  bool started_ = false;
  bool finished_ = false;
  bool idle_ = false;
};

}  // namespace normlab::client
