#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include "server/api/status.h"
#include "server/api/stream_registry.h"
#include "server/api/work_pool.h"

namespace normlab::server {

enum class StreamStep {
  kMessage,  // a message was made
  kAgain,    // none yet, but there is more to look at: ask again soon
  kWait,     // nothing to send until woken
  kEnd,      // nothing will follow
};

// Where a stream's messages come from. Its calls are never concurrent, but on different threads;
// Next may block for disk.
template <typename Response>
class StreamSource {
 public:
  virtual ~StreamSource() = default;
  // Called once, first. `wake` is thread-safe, does not block, and is not called any more after
  // Stop.
  virtual void Start(std::function<void()> wake) { (void)wake; }
  // Makes the next message in `response`, which comes cleared. `idle`: nothing was sent for the
  // heartbeat interval.
  virtual absl::StatusOr<StreamStep> Next(bool idle, Response& response) = 0;
  // Where a reader that got every message so far would go on.
  virtual StreamPosition position() const = 0;
  virtual void Stop() {}
};

// Sends a source's messages to a client: reads on the pool, one message outstanding. Nothing is
// queued: while the client does not read, nothing is read from the source. A message that is not
// taken within the registry's write timeout ends the stream with the position to resume from; a
// reader that does not even take that is cancelled.
//
// gRPC calls OnDone last, after which no reaction runs and no operation may start; the object lives
// on until tasks and registry have let go of it.
template <typename Response>
class StreamReactor final : public grpc::ServerWriteReactor<Response>,
                            public StreamControl,
                            public std::enable_shared_from_this<StreamReactor<Response>> {
 public:
  // For a method handler to return. `heartbeat`: after how long a silence the source is told to be
  // idle; infinite: never. Registry and pool outlive the call.
  static grpc::ServerWriteReactor<Response>* Start(StreamRegistry& registry,
                                                   WorkPool& pool,
                                                   grpc::CallbackServerContext* context,
                                                   absl::Duration heartbeat,
                                                   std::unique_ptr<StreamSource<Response>> source) {
    std::shared_ptr<StreamReactor> reactor(
        new StreamReactor(registry, pool, context, heartbeat, std::move(source)));
    reactor->self_ = reactor;
    const absl::Status added = registry.Add(reactor);
    absl::MutexLock lock(&reactor->mu_);
    if (added.ok()) {
      reactor->Pump();
    } else {
      reactor->FinishWith(added);
    }
    return reactor.get();
  }

  // Answers a call that was refused before it had a source.
  static grpc::ServerWriteReactor<Response>* Refuse(absl::Status status) {
    class Refusal final : public grpc::ServerWriteReactor<Response> {
     public:
      explicit Refusal(const absl::Status& why) { this->Finish(ToGrpcStatus(why)); }
      void OnDone() override { delete this; }
    };
    return new Refusal(status);
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    // It may be a megabyte, and there may be hundreds of silent streams.
    message_ = Response();
    last_activity_ = registry_.Now();
    if (!ok && end_ == End::kNone) {
      end_ = End::kCancelled;
    }
    Pump();
  }

  void OnCancel() override {
    absl::MutexLock lock(&mu_);
    if (end_ == End::kNone) {
      end_ = End::kCancelled;
    }
    Pump();
  }

  void OnDone() override {
    {
      absl::MutexLock lock(&mu_);
      done_ = true;
    }
    // Not under the lock: it waits for a `wake` that is running.
    source_->Stop();
    registry_.Remove(this);
    // Last: may delete this.
    std::shared_ptr<StreamReactor> self = std::move(self_);
  }

  void Tick(absl::Duration now) override {
    absl::MutexLock lock(&mu_);
    const bool stuck = writing_ && now - last_activity_ > registry_.write_timeout();
    if (finished_) {
      // The status waits behind a message that nobody takes.
      if (stuck && !done_) {
        last_activity_ = now;
        context_->TryCancel();
      }
      return;
    }
    if (stuck) {
      if (end_ == End::kNone) {
        end_ = End::kTooSlow;
        registry_.CountCutOff();
      }
      last_activity_ = now;
      Pump();
      return;
    }
    if (waiting_ && now - last_activity_ >= heartbeat_) {
      idle_ = true;
      Pump();
    }
  }

  void Drain() override {
    absl::MutexLock lock(&mu_);
    if (end_ == End::kNone) {
      end_ = End::kDrained;
    }
    Pump();
  }

 private:
  enum class End { kNone, kCancelled, kDrained, kTooSlow };

  StreamReactor(StreamRegistry& registry,
                WorkPool& pool,
                grpc::CallbackServerContext* context,
                absl::Duration heartbeat,
                std::unique_ptr<StreamSource<Response>> source)
      : registry_(registry),
        pool_(pool),
        context_(context),
        heartbeat_(heartbeat),
        source_(std::move(source)),
        last_activity_(registry.Now()),
        sent_(source_->position()) {}

  void Wake() {
    absl::MutexLock lock(&mu_);
    news_ = true;
    Pump();
  }

  // Starts whatever is to be done next, if anything. Operations of gRPC are started under the lock:
  // their reactions come from other threads or after the present one has returned to gRPC, never
  // from inside the call.
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (finished_ || busy_) {
      return;
    }
    switch (end_) {
      case End::kNone:
        break;
      case End::kCancelled:
        FinishWith(absl::CancelledError("the caller went away"));
        return;
      case End::kDrained:
        FinishWith(StreamDrained(sent_));
        return;
      case End::kTooSlow:
        FinishWith(StreamReaderTooSlow(sent_, registry_.write_timeout()));
        return;
    }
    if (writing_ || (waiting_ && !news_ && !idle_)) {
      return;
    }
    const bool idle = waiting_ && idle_;
    busy_ = true;
    waiting_ = false;
    news_ = false;
    idle_ = false;
    pool_.Post([self = this->shared_from_this(), idle] { self->Step(idle); });
  }

  void Step(bool idle) {
    if (!started_) {
      started_ = true;
      // The source stops waking before this object can go: see OnDone.
      source_->Start([this] { Wake(); });
    }
    const absl::StatusOr<StreamStep> step = source_->Next(idle, next_);
    absl::MutexLock lock(&mu_);
    busy_ = false;
    if (end_ != End::kNone) {
      next_ = Response();
      Pump();  // the message that was made is not sent: its reader will ask for it again
      return;
    }
    if (!step.ok()) {
      FinishWith(step.status());
      return;
    }
    switch (*step) {
      case StreamStep::kMessage:
        message_ = std::move(next_);
        // Not only cleared, which would keep its memory for as long as the reader stalls.
        next_ = Response();
        sent_ = source_->position();
        writing_ = true;
        last_activity_ = registry_.Now();
        this->StartWrite(&message_);
        break;
      case StreamStep::kAgain:
        Pump();
        break;
      case StreamStep::kWait:
        waiting_ = true;
        if (idle) {
          // It has nothing to say: asked again after another such silence, not at every tick.
          last_activity_ = registry_.Now();
        }
        Pump();
        break;
      case StreamStep::kEnd:
        FinishWith(absl::OkStatus());
        break;
    }
  }

  void FinishWith(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    finished_ = true;
    this->Finish(ToGrpcStatus(status));
  }

  StreamRegistry& registry_;
  WorkPool& pool_;
  grpc::CallbackServerContext* const context_;  // valid until done_
  const absl::Duration heartbeat_;
  const std::unique_ptr<StreamSource<Response>> source_;  // used by the one Step that runs
  bool started_ = false;                                  // likewise
  Response next_;                                         // likewise
  Response message_;                                      // gRPC's while writing_, else empty
  std::shared_ptr<StreamReactor> self_;                   // until OnDone

  absl::Mutex mu_;
  bool busy_ ABSL_GUARDED_BY(mu_) = false;  // a Step is posted or runs
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool waiting_ ABSL_GUARDED_BY(mu_) = false;  // the source has nothing
  bool news_ ABSL_GUARDED_BY(mu_) = false;
  bool idle_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;  // Finish was called
  bool done_ ABSL_GUARDED_BY(mu_) = false;
  End end_ ABSL_GUARDED_BY(mu_) = End::kNone;
  absl::Duration last_activity_ ABSL_GUARDED_BY(mu_);
  StreamPosition sent_ ABSL_GUARDED_BY(mu_);  // of the last message handed to gRPC
};

}  // namespace normlab::server
