#include "server/api/worker_service.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "common/clock.h"
#include "server/api/status.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"

#include "spdlog/spdlog.h"

namespace normlab::server {
namespace {

// One connection of a worker. gRPC calls OnDone last; the object lives on until the store and the
// controller have let go of it.
class ReportStream final : public grpc::ServerBidiReactor<v1::WorkerMessage, v1::ServerMessage>,
                           public WorkerSession,
                           public std::enable_shared_from_this<ReportStream> {
 public:
  static ReportStream* Start(Store& store,
                             Controller& controller,
                             Hub& hub,
                             Observer& observer,
                             std::shared_ptr<ReportClock> clock) {
    std::shared_ptr<ReportStream> stream(
        new ReportStream(store, controller, hub, observer, std::move(clock)));
    stream->self_ = stream;
    absl::MutexLock lock(&stream->mu_);
    stream->Pump();
    return stream.get();
  }

  // ---- WorkerSession.

  void Stop(const v1::StopRequest& request) override {
    absl::MutexLock lock(&mu_);
    *outgoing_.emplace_back().mutable_stop() = request;
    Pump();
  }

  void Trains(v1::Model::KindCase model) override { model_.store(model); }

  absl::Duration Silence() override {
    return absl::Nanoseconds(MonotonicNanos() - heard_ns_.load());
  }

  void Close(absl::Status reason) override {
    absl::MutexLock lock(&mu_);
    if (absl::IsFailedPrecondition(reason) && !end_.has_value() && !done_) {
      // Its attempt is over, and it is connected still: whatever it had to say is refused with this.
      observer_.OnFenced();
    }
    End(std::move(reason));
  }

  // ---- Reactions of gRPC.

  void OnReadDone(bool ok) override {
    if (!ok) {
      absl::MutexLock lock(&mu_);
      reading_ = false;
      reads_ended_ = true;
      Pump();
      return;
    }
    heard_ns_.store(MonotonicNanos());
    // incoming_ is ours until reading_ is false again; the next read starts only then, so reports
    // reach the store in order.
    if (incoming_.has_hello() && !greeted_) {
      OnHello();
    } else if (incoming_.has_report() && greeted_) {
      OnReport();
    } else {
      absl::MutexLock lock(&mu_);
      End(absl::InvalidArgumentError(greeted_ ? "a worker sends reports after its hello"
                                              : "a worker's first message is its hello"));
    }
    absl::MutexLock lock(&mu_);
    reading_ = false;
    Pump();
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) {
      End(absl::UnavailableError("the worker's connection broke"));
    }
    Pump();
  }

  void OnCancel() override {
    absl::MutexLock lock(&mu_);
    End(absl::CancelledError("the worker went away"));
  }

  void OnDone() override {
    // Its end waits for a call of TellAudience, which takes the lock.
    std::unique_ptr<Hub::Subscription> audience;
    {
      absl::MutexLock lock(&mu_);
      done_ = true;
      audience = std::move(audience_);
      last_report_.reset();
    }
    audience.reset();
    MaybeDisconnect();
    const std::shared_ptr<ReportStream> self = std::move(self_);  // last: may delete this
  }

 private:
  ReportStream(Store& store,
               Controller& controller,
               Hub& hub,
               Observer& observer,
               std::shared_ptr<ReportClock> clock)
      : store_(store),
        controller_(controller),
        hub_(hub),
        observer_(observer),
        clock_(std::move(clock)) {}

  void OnHello() {
    greeted_ = true;
    const v1::Hello hello = std::move(*incoming_.mutable_hello());
    const absl::StatusOr<std::string> id = ParseJobName(hello.job(), "job");
    key_ = {id.ok() ? *id : "", hello.attempt()};
    {
      absl::MutexLock lock(&mu_);
      introduced_ = true;
    }
    controller_.Connected(hello, shared_from_this(),
                          [self = shared_from_this()](absl::StatusOr<v1::Welcome> welcome) {
                            self->OnWelcome(std::move(welcome));
                          });
  }

  void OnWelcome(absl::StatusOr<v1::Welcome> welcome) {
    {
      absl::MutexLock lock(&mu_);
      if (!welcome.ok()) {
        if (absl::IsFailedPrecondition(welcome.status())) {
          observer_.OnFenced();
        }
        End(welcome.status());
        return;
      }
      welcomed_ = true;
      if (!done_) {
        last_report_ = clock_->Add();
      }
      // Before a stop request that came early.
      outgoing_.emplace_front();
      *outgoing_.front().mutable_welcome() = *std::move(welcome);
      Pump();
    }
    std::unique_ptr<Hub::Subscription> audience =
        hub_.ObserveAudience(key_.job_id, [this] { TellAudience(); });
    {
      absl::MutexLock lock(&mu_);
      if (!done_) {
        audience_ = std::move(audience);
      }
    }
    TellAudience();
  }

  void TellAudience() {
    absl::MutexLock lock(&mu_);
    const bool watching = hub_.HasSubscribers(key_.job_id);
    if (watching == told_watching_) {
      return;
    }
    told_watching_ = watching;
    outgoing_.emplace_back().mutable_audience()->set_watching(watching);
    Pump();
  }

  void OnReport() {
    v1::WorkerReport report = std::move(*incoming_.mutable_report());
    {
      absl::MutexLock lock(&mu_);
      if (end_.has_value()) {
        return;
      }
      ++reports_in_flight_;
    }
    if (report.has_outcome()) {
      for (v1::Segment& record : controller_.UntoldOutput(key_)) {
        *report.add_segments() = std::move(record);
      }
    }
    ReportFacts facts;
    facts.number = report.number();
    facts.examples = report.examples();
    facts.has_outcome = report.has_outcome();
    facts.step_seconds.assign(report.step_seconds().begin(), report.step_seconds().end());
    if (report.has_checkpoint()) {
      facts.checkpoint = {report.checkpoint().seconds(), report.checkpoint().bytes()};
    }
    store_.AppendReport(key_, std::move(report),
                        [self = shared_from_this(),
                         facts = std::move(facts)](absl::StatusOr<Store::AppendResult> result) {
                          self->OnStored(facts, std::move(result));
                        });
  }

  // What is still wanted of a report when it is stored.
  struct ReportFacts {
    int64_t number = 0;
    int64_t examples = 0;
    bool has_outcome = false;
    std::vector<float> step_seconds;
    std::optional<std::pair<double, int64_t>> checkpoint;  // seconds, bytes
  };

  // On the store's thread, in the order of the reports.
  void OnStored(const ReportFacts& facts, absl::StatusOr<Store::AppendResult> result) {
    const int64_t number = facts.number;
    if (result.ok()) {
      observer_.OnReport(model_.load(), static_cast<int64_t>(facts.step_seconds.size()),
                         facts.examples, facts.step_seconds, result->points);
      if (facts.checkpoint.has_value()) {
        observer_.OnCheckpoint(facts.checkpoint->first, facts.checkpoint->second);
      }
      if (result->mismatches > 0) {
        observer_.OnReplayMismatch(result->mismatches);
      }
      if (facts.has_outcome && result->job_changed) {
        controller_.AttemptFinished(result->job);
      }
    } else {
      if (absl::IsFailedPrecondition(result.status()) || absl::IsNotFound(result.status())) {
        observer_.OnFenced();
      }
      spdlog::warn("report {} of {} attempt {} is not stored: {}", number, JobName(key_.job_id),
                   key_.number, std::string(result.status().message()));
      if (absl::IsInvalidArgument(result.status()) || absl::IsDataLoss(result.status())) {
        // Before the worker learns of it, and ends.
        controller_.ReportRefused(key_, result.status());
      }
    }
    {
      absl::MutexLock lock(&mu_);
      --reports_in_flight_;
      if (result.ok()) {
        if (last_report_ != nullptr) {
          ReportClock::Touch(*last_report_);
        }
        Acknowledge(number);
      } else {
        End(ForWorker(result.status()));
      }
      Pump();
    }
    MaybeDisconnect();
  }

  // Two answers a worker understands: its reports will never be taken (it exits), or not now (it
  // comes back and sends them again).
  static absl::Status ForWorker(const absl::Status& status) {
    switch (status.code()) {
      case absl::StatusCode::kFailedPrecondition:
      case absl::StatusCode::kUnauthenticated:
        return status;
      case absl::StatusCode::kInvalidArgument:
      case absl::StatusCode::kNotFound:
        return absl::FailedPreconditionError(status.message());
      case absl::StatusCode::kDataLoss:
        // What is stored of this job cannot be read: sending again would not help.
        return absl::DataLossError(status.message());
      default:
        return absl::UnavailableError(status.message());
    }
  }

  void Acknowledge(int64_t number) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    // An acknowledgement covers all reports up to its own, so one that waits to be sent is brought
    // up to date instead: the queue stays short however slowly the worker reads.
    for (v1::ServerMessage& waiting : outgoing_) {
      if (waiting.has_ack()) {
        waiting.mutable_ack()->set_report(number);
        return;
      }
    }
    outgoing_.emplace_back().mutable_ack()->set_report(number);
  }

  // The stream shall end so; the first reason counts.
  void End(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!end_.has_value()) {
      end_ = std::move(status);
    }
    Pump();
  }

  // Starts whatever can be started. Operations of gRPC are started under the lock, which keeps them
  // and Finish in order; their reactions never come from inside the call.
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (finished_) {
      return;
    }
    const bool worker_is_through =
        reads_ended_ && reports_in_flight_ == 0 && outgoing_.empty() && !writing_;
    if (!end_.has_value() && worker_is_through) {
      end_ = absl::OkStatus();
    }
    if (end_.has_value()) {
      if (!writing_) {
        finished_ = true;
        Finish(ToGrpcStatus(*end_));
      }
      return;
    }
    if (!writing_ && !outgoing_.empty() && welcomed_) {
      writing_ = true;
      being_written_ = std::move(outgoing_.front());
      outgoing_.pop_front();
      StartWrite(&being_written_);
    }
    const bool wants_message =
        !introduced_ || (welcomed_ && reports_in_flight_ < WorkerService::kMaxReportsInFlight);
    if (!reading_ && !reads_ended_ && wants_message) {
      reading_ = true;
      incoming_.Clear();
      StartRead(&incoming_);
    }
  }

  // Tells the controller, once, when the stream is over and everything it carried is answered.
  void MaybeDisconnect() ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      if (!introduced_ || !done_ || reports_in_flight_ > 0 || disconnected_) {
        return;
      }
      disconnected_ = true;
    }
    controller_.Disconnected(key_, this);
  }

  Store& store_;
  Controller& controller_;
  Hub& hub_;
  Observer& observer_;
  const std::shared_ptr<ReportClock> clock_;
  std::shared_ptr<ReportStream> self_;  // until OnDone
  static int64_t MonotonicNanos() {
    return absl::ToInt64Nanoseconds(common::Clock::Real().Monotonic());
  }
  std::atomic<int64_t> heard_ns_ = MonotonicNanos();
  std::atomic<v1::Model::KindCase> model_ = v1::Model::KIND_NOT_SET;

  // Of whoever has read a message, until reading_ is false.
  v1::WorkerMessage incoming_;
  bool greeted_ = false;
  AttemptKey key_;  // constant once introduced_

  absl::Mutex mu_;
  v1::ServerMessage being_written_;  // gRPC's while writing_
  std::deque<v1::ServerMessage> outgoing_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<ReportClock::Entry> last_report_ ABSL_GUARDED_BY(mu_);  // while it is connected
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool reads_ended_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool introduced_ ABSL_GUARDED_BY(mu_) = false;  // the controller knows of this session
  bool welcomed_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;  // Finish was called: no operation may follow
  bool done_ ABSL_GUARDED_BY(mu_) = false;
  bool disconnected_ ABSL_GUARDED_BY(mu_) = false;
  int reports_in_flight_ ABSL_GUARDED_BY(mu_) = 0;
  bool told_watching_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Hub::Subscription> audience_ ABSL_GUARDED_BY(mu_);
};

// The call of a stranger: over before it begins.
class RefusedStream final : public grpc::ServerBidiReactor<v1::WorkerMessage, v1::ServerMessage> {
 public:
  explicit RefusedStream(const absl::Status& why) { Finish(ToGrpcStatus(why)); }
  void OnDone() override { delete this; }
};

}  // namespace

std::shared_ptr<ReportClock::Entry> ReportClock::Add() {
  auto entry = std::make_shared<Entry>(0);
  Touch(*entry);
  absl::MutexLock lock(&mu_);
  entries_.erase(std::remove_if(entries_.begin(), entries_.end(),
                                [](const auto& other) { return other.expired(); }),
                 entries_.end());
  entries_.push_back(entry);
  return entry;
}

void ReportClock::Touch(Entry& entry) {
  entry.store(absl::ToInt64Nanoseconds(common::Clock::Real().Monotonic()));
}

absl::Duration ReportClock::OldestAge() {
  const absl::Duration now = common::Clock::Real().Monotonic();
  absl::MutexLock lock(&mu_);
  absl::Duration oldest = absl::ZeroDuration();
  for (const std::weak_ptr<Entry>& weak : entries_) {
    if (const std::shared_ptr<Entry> entry = weak.lock(); entry != nullptr) {
      oldest = std::max(oldest, now - absl::Nanoseconds(entry->load()));
    }
  }
  return oldest;
}

grpc::ServerBidiReactor<v1::WorkerMessage, v1::ServerMessage>* WorkerService::Report(
    grpc::CallbackServerContext* context) {
  if (reach_ == Reach::kNetwork) {
    if (const absl::Status known = gate_.Check(context->client_metadata()); !known.ok()) {
      return new RefusedStream(known);
    }
  }
  return ReportStream::Start(store_, controller_, hub_, observer_, clock_);
}

}  // namespace normlab::server
