#pragma once

#include <sched.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>

#include "engine/data/mapped_dataset.h"
#include "engine/train/trainer.h"
#include "engine/worker/folder_watch.h"
#include "engine/worker/outbox.h"
#include "engine/worker/report_channel.h"
#include "engine/worker/reporter.h"

#include "normlab/v1/worker.pb.h"

namespace normlab::engine {

// OUT_OF_MEMORY, with the estimate and the limit of the assignment and what to do.
v1::Failure OutOfMemoryFailure(const v1::WorkerAssignment& assignment);

// One attempt from its assignment to its outcome: plans, connects, trains, and stays until the
// server has everything. Whatever goes wrong on the way becomes an outcome, as long as there is a
// server that wants it.
//
// The thread that constructs it calls Run, once. Owns everything it needs.
class AttemptRunner {
 public:
  // What signals ask for; both are asked every few milliseconds on another thread, too.
  struct Wishes {
    // True ends the attempt without an outcome after the current step.
    std::function<bool()> terminating;
    // True ends it with a checkpoint after the current step, as PREEMPTED. Null: never.
    std::function<bool()> leaving{};
  };
  // `server_ca`: see ReportChannelOptions.
  AttemptRunner(v1::WorkerAssignment assignment,
                FolderWatch folder,
                Wishes wishes,
                std::string server_ca = {});

  // Returns the exit code of the process: kExitDone or kExitTerminated. A fenced or orphaned worker
  // does not return: it exits at once with its code, because nothing it does is wanted any more.
  int Run();

 private:
  // Maps the data and plans the training; the failure otherwise.
  std::optional<v1::Failure> Prepare();
  std::optional<v1::Failure> TryPrepare();
  RunSizes Sizes() const;
  ReportChannelOptions ChannelOptions(Outbox& outbox);
  ReporterOptions MakeReporterOptions(Outbox& outbox);
  void Announce(Outbox& outbox) const;
  v1::Outcome Train(MetricSink& sink);

  const v1::WorkerAssignment assignment_;
  const FolderWatch folder_;
  const std::function<bool()> terminating_;
  const std::function<bool()> leaving_;
  const std::string server_ca_;
  const cpu_set_t cores_;  // of the process; OpenMP binds this thread to one of them
  std::stop_source stop_;
  // Requested before stop_ when the run shall leave a checkpoint; stop_reason_ is set before both.
  std::stop_source checkpoint_;
  std::atomic<v1::FailureReason::Kind> stop_reason_ = v1::FailureReason::PAUSED;
  std::optional<MappedDataset> data_;
  std::unique_ptr<Trainer> trainer_;
};

}  // namespace normlab::engine
