#pragma once

#include "server/monitor/observer.h"
#include "server/scheduler/controller.h"
#include "server/store/store.h"
#include "server/stream/hub.h"

#include "normlab/v1/worker.grpc.pb.h"

namespace normlab::server {

// The Worker service of the worker listener: one stream per connection of an attempt. The first
// message must be a Hello, which the controller judges; after its Welcome, reports go to the store,
// at most kMaxReportsInFlight at a time, and each is acknowledged once committed, in order. A
// report that the store refuses ends the stream: with FAILED_PRECONDITION when the attempt is
// fenced (the worker exits), with UNAVAILABLE when the store cannot write (the worker reconnects
// and sends again what was not acknowledged). The worker is told whether somebody follows its job.
//
// Thread-safe. Store, controller and observer must outlive the grpc::Server it is registered with,
// and its streams: shut that down first.
class WorkerService final : public v1::Worker::CallbackService {
 public:
  static constexpr int kMaxReportsInFlight = 8;
  static constexpr int kProtocolVersion = 1;

  WorkerService(Store& store,
                Controller& controller,
                Hub& hub,
                Observer& observer = Observer::None())
      : store_(store), controller_(controller), hub_(hub), observer_(observer) {}

  grpc::ServerBidiReactor<v1::WorkerMessage, v1::ServerMessage>* Report(
      grpc::CallbackServerContext* context) override;

 private:
  Store& store_;
  Controller& controller_;
  Hub& hub_;
  Observer& observer_;
};

}  // namespace normlab::server
