#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/clock.h"
#include "server/executor/executor.h"
#include "server/executor/helper.h"
#include "server/monitor/observer.h"
#include "server/scheduler/policy.h"
#include "server/store/store.h"

#include "normlab/v1/worker.pb.h"

namespace normlab::server {

// What the controller can ask of a connected worker. Thread-safe.
class WorkerSession {
 public:
  virtual ~WorkerSession() = default;
  // Asks the worker to end after its current step. Does not block.
  virtual void Stop(const v1::StopRequest& request) = 0;
  // What the attempt trains, for monitoring. Before the answer to the hello.
  virtual void Trains(v1::Model::KindCase model) { (void)model; }
  // Time since anything came from the worker.
  virtual absl::Duration Silence() { return absl::ZeroDuration(); }
  // Cuts the connection: the worker is not the job's current attempt any more, or the server is
  // going down.
  virtual void Close(absl::Status reason) = 0;
};

struct ControllerOptions {
  std::vector<int> cores;    // cores that jobs may use
  int64_t memory_bytes = 0;  // memory that jobs may reserve
  bool pin = true;
  std::string work_dir;       // attempts live in <work_dir>/jobs/<id>/attempt-<n>
  std::string worker_target;  // gRPC target of the worker listener
  // Of a started worker, from when it runs: it plans its networks before it says hello. Its death is
  // noticed at once; this is for hangs.
  absl::Duration hello_timeout = absl::Seconds(120);
  absl::Duration adoption_grace = absl::Seconds(5);  // for workers that outlived the server
  absl::Duration cancel_grace = absl::Seconds(30);   // between Stop and Kill
  absl::Duration orphan_timeout = absl::Hours(24);
  std::vector<std::string> data_roots;  // for the helper, when it looks at a job's data again
  std::string cache_dir;                // decoded data sets; empty: <work_dir>/cache
  absl::Duration data_timeout =
      absl::Minutes(10);  // for that look (the first one decodes the data set)
  absl::Duration drain_grace =
      absl::Seconds(1);  // for the last reports of a process that has exited
  absl::Duration exit_grace = absl::Seconds(10);  // for a worker whose outcome is stored to be gone
  // How owners share the machine; `usage` is the controller's own.
  Sharing sharing;
  // How long the thread may sleep at a time. For clocks that stand still: whoever advances them
  // cannot wake it.
  absl::Duration max_sleep = absl::InfiniteDuration();
  const common::Clock* clock = &common::Clock::Real();
};

// Makes the world follow the store: starts the attempts that the policy picks, ends those that are
// cancelled, paused or over their time, turns exits of processes into state changes, takes up after a
// restart. One thread of its own does all of it; everything here only posts to that thread, and is
// thread-safe.
class Controller {
 public:
  // Store, executor, helper and observer must outlive it.
  static std::unique_ptr<Controller> Create(ControllerOptions options,
                                            Store& store,
                                            Executor& executor,
                                            Helper& helper,
                                            Observer& observer = Observer::None());

  virtual ~Controller() = default;

  // Loads unfinished jobs, adopts or re-queues attempts of an earlier server, and starts
  // scheduling.
  virtual absl::Status Start() = 0;

  // A job was created, or its state, its durable wishes (cancel_request_time, pause_request_time) or
  // its priority changed.
  virtual void JobChanged(const v1::Job& job) = 0;

  // A worker said hello. Checks the secret's hash, the fence (the attempt is the job's current one)
  // and the protocol version; on success the attempt becomes RUNNING (durably) and `done` gets the
  // number of the last stored report. UNAUTHENTICATED; FAILED_PRECONDITION: superseded or ended
  // attempt. `session` stays registered until Disconnected.
  virtual void Connected(const v1::Hello& hello,
                         std::shared_ptr<WorkerSession> session,
                         absl::AnyInvocable<void(absl::StatusOr<v1::Welcome>) &&> done) = 0;
  // The session is over and every report it carried is answered by the store.
  virtual void Disconnected(const AttemptKey& attempt, const WorkerSession* session) = 0;
  // A report with the attempt's outcome was stored; `job` is as it is after that. Before the
  // session's Disconnected.
  virtual void AttemptFinished(const v1::Job& job) { (void)job; }

  // A report of the attempt was refused for good: it breaks the protocol (INVALID_ARGUMENT), or what
  // is stored of the job is damaged (DATA_LOSS, which ends the job). Before the session's
  // Disconnected.
  virtual void ReportRefused(const AttemptKey& attempt, const absl::Status& why) {
    (void)attempt;
    (void)why;
  }

  // For the report with the attempt's outcome: log records of what else its worker.log has, where it runs
  // elsewhere (an attempt without an outcome has them stored with its loss). Reads the disk; not on the
  // controller's thread.
  virtual std::vector<v1::Segment> UntoldOutput(const AttemptKey& attempt) {
    (void)attempt;
    return {};
  }

  // Has the thread call `done` when it comes to it: the sign that it lives. After Stop, dropped.
  virtual void Ping(absl::AnyInvocable<void() &&> done) { std::move(done)(); }

  // Starts no more attempts from now on, and has every worker end with a checkpoint after its current
  // step; attempts that have not begun to train end at once. Their reason is SERVER_DRAINED, and
  // their jobs wait for the next server.
  virtual void Drain() {}
  // Waits until no attempt is live (after Drain); false: not within `timeout`.
  virtual bool WaitUntilIdle(absl::Duration timeout) {
    (void)timeout;
    return true;
  }

  // Starts no more attempts, closes the sessions (UNAVAILABLE) and ends the thread. Running workers
  // are left alone: they outlive the server and reconnect to the next one.
  virtual void Stop() = 0;

  struct Load {
    int queued = 0;
    int running = 0;  // starting or running
    int free_cores = 0;
    int64_t free_memory_bytes = 0;
    // Since when the job waits that has waited longest; monotonic. Infinite: none waits.
    absl::Duration oldest_wait_since = absl::InfiniteDuration();
  };
  virtual Load GetLoad() = 0;

  // What keeps each of these jobs waiting, as sentences for people, by id; those that do not wait are
  // left out, and so are all when the controller is too busy to say. Blocks for some milliseconds at
  // most; not from a gRPC callback thread.
  virtual std::map<std::string, std::string> QueueReasons(std::vector<std::string> job_ids) {
    (void)job_ids;
    return {};
  }
  // For how long nothing has come from the worker of each of these jobs that runs, by id. As
  // QueueReasons.
  virtual std::map<std::string, absl::Duration> Silences(std::vector<std::string> job_ids) {
    (void)job_ids;
    return {};
  }
};

}  // namespace normlab::server
