#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "server/api/hello_gate.h"
#include "server/monitor/observer.h"
#include "server/scheduler/controller.h"
#include "server/store/store.h"
#include "server/stream/hub.h"

#include "normlab/v1/worker.grpc.pb.h"

namespace normlab::server {

// When each connected worker last had a report stored. Thread-safe.
class ReportClock {
 public:
  using Entry = std::atomic<int64_t>;  // monotonic; [ns]

  // One that counts for as long as the caller keeps it, beginning now.
  std::shared_ptr<Entry> Add() ABSL_LOCKS_EXCLUDED(mu_);
  static void Touch(Entry& entry);
  // Age of the oldest last report; zero without workers.
  absl::Duration OldestAge() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  absl::Mutex mu_;
  std::vector<std::weak_ptr<Entry>> entries_ ABSL_GUARDED_BY(mu_);
};

// The Worker service of the worker listener: one stream per connection of an attempt. The first
// message must be a Hello, which the controller judges; after its Welcome, reports go to the store,
// at most kMaxReportsInFlight at a time, and each is acknowledged once committed, in order. A
// report that the store refuses ends the stream: with FAILED_PRECONDITION when the attempt is
// fenced (the worker exits), with UNAVAILABLE when the store cannot write (the worker reconnects
// and sends again what was not acknowledged). The worker is told whether somebody follows its job.
//
// Where strangers may connect as well (kNetwork) the headers of a call must have the hello too
// (common/worker_hello.h): whoever is no worker is refused before a message of its is read.
//
// Thread-safe. Store, controller and observer must outlive the grpc::Server it is registered with,
// and its streams: shut that down first.
class WorkerService final : public v1::Worker::CallbackService {
 public:
  static constexpr int kMaxReportsInFlight = 8;
  static constexpr int kProtocolVersion = 1;

  // Who can connect.
  enum class Reach { kThisUser, kNetwork };

  WorkerService(Store& store,
                Controller& controller,
                Hub& hub,
                Observer& observer = Observer::None(),
                Reach reach = Reach::kThisUser)
      : store_(store),
        controller_(controller),
        hub_(hub),
        observer_(observer),
        reach_(reach),
        gate_(store) {}

  grpc::ServerBidiReactor<v1::WorkerMessage, v1::ServerMessage>* Report(
      grpc::CallbackServerContext* context) override;

  // For how long the connected worker that was heard of least lately has had no report stored.
  absl::Duration OldestReportAge() { return clock_->OldestAge(); }

 private:
  Store& store_;
  Controller& controller_;
  Hub& hub_;
  Observer& observer_;
  const Reach reach_;
  HelloGate gate_;
  const std::shared_ptr<ReportClock> clock_ = std::make_shared<ReportClock>();
};

}  // namespace normlab::server
