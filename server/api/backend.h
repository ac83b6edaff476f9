#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "common/clock.h"
#include "server/api/call_places.h"
#include "server/api/queue_gate.h"
#include "server/api/stream_registry.h"
#include "server/api/work_pool.h"
#include "server/auth/authorizer.h"
#include "server/executor/helper.h"
#include "server/monitor/observer.h"
#include "server/scheduler/controller.h"
#include "server/store/store.h"
#include "server/stream/hub.h"

namespace normlab::server {

// What the handlers know of the machine and of the server's settings.
struct ApiOptions {
  std::string version;
  int cores = 1;             // that jobs may use, all together
  int64_t memory_bytes = 0;  // likewise
  // Why jobs of several processes cannot run here, and what to install; empty: they can.
  std::string no_ranks_because;
  std::vector<std::string> data_roots;
  std::string data_dir;                                  // of the database
  std::string work_dir;                                  // below which jobs have their files
  std::string cache_folder;                              // where the helper keeps decoded data sets
  absl::Duration inspect_timeout = absl::Seconds(60);    // for the helper to read a job's data
  absl::Duration normalize_timeout = absl::Seconds(10);  // of a Normalize call, waiting included
  absl::Duration heartbeat_interval = absl::Seconds(5);
  // Between two messages of a WatchExperiment.
  absl::Duration experiment_interval = absl::Seconds(1);
  QueueLimits queue_limits;
  bool runs_on_slurm = false;  // so that specs may say how
  const common::Clock* clock = &common::Clock::Real();
};

// Everything a handler works with. Thread-safe as its parts are; owns none of them, and they
// outlive every call.
struct Backend {
  const ApiOptions options;
  Store& store;
  Hub& hub;
  Controller& controller;
  Helper& helper;  // looks at the data of new jobs; those that start have another one
  // Computes Normalize calls: a process apart from the other, so that a job with a new data set is
  // admitted at once however many tensors wait, and neither's crash delays the other.
  Helper& normalizer;
  Observer& observer;
  WorkPool& pool;  // short handlers
  WorkPool&
      stream_pool;  // streams' reads, which a crowd of watchers must not take from other calls
  StreamRegistry& streams;
  Authorizer& authorizer = Authorizer::AllowAll();
  // New jobs are refused; everything else goes on until the listener closes.
  std::atomic<bool> draining = false;
  // CreateJob calls between admission and answer.
  std::atomic<int> creates_in_flight = 0;
  // CreateExperiment calls likewise; they count among creates_in_flight too.
  CallPlaces experiment_creations;
  // Calls that cancel the jobs of an experiment, or wait for their end.
  std::atomic<int> experiment_sweeps = 0;
  // The other short calls that wait for the pool or run there.
  std::atomic<int> calls_in_flight = 0;
  // Forced deletions that wait for the end of a job.
  std::atomic<int> forced_deletions = 0;
  // Places in the queue for jobs that are being created.
  QueueGate queue_gate{options.queue_limits, store};
};

}  // namespace normlab::server
