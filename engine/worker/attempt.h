#pragma once

#include <sched.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>

#include "engine/data/mapped_dataset.h"
#include "engine/parallel/communicator.h"
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
// With several ranks each has one, of the same assignment. Rank 0 talks to the server, writes files and
// hears of stops; the others train, and return when the training is over. What goes wrong on one rank
// in a way that the others cannot notice has to end the process: MPI then ends them all.
//
// The thread that constructs it calls Run, once. Owns everything it needs but the communicator.
class AttemptRunner {
 public:
  // What signals ask for; both are asked every few milliseconds on another thread, too.
  struct Wishes {
    // True ends the attempt without an outcome after the current step.
    std::function<bool()> terminating;
    // True ends it with a checkpoint after the current step, as PREEMPTED. Null: never.
    std::function<bool()> leaving{};
  };
  // `server_ca`: see ReportChannelOptions. `communicator`: of the ranks; null: this process alone.
  AttemptRunner(v1::WorkerAssignment assignment,
                FolderWatch folder,
                Wishes wishes,
                std::string server_ca = {},
                Communicator* communicator = nullptr);

  // Returns the exit code of the process: kExitDone, kExitTerminated or, when other ranks may wait for
  // this one in vain, kExitOutOfMemory: these must not be waited for. A fenced or orphaned worker
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
  // Of rank 0, or of the only process.
  int RunAndReport(const std::optional<v1::Failure>& failure);
  // Of the others.
  int RunSilently(const std::optional<v1::Failure>& failure);

  const v1::WorkerAssignment assignment_;
  const FolderWatch folder_;
  const std::function<bool()> terminating_;
  const std::function<bool()> leaving_;
  const std::string server_ca_;
  Communicator* const communicator_;
  const cpu_set_t cores_;  // of the process; OpenMP binds this thread to one of them
  // This rank stopped where the others may not have.
  bool out_of_step_ = false;
  std::stop_source stop_;
  // Requested before stop_ when the run shall leave a checkpoint; stop_reason_ is set before both.
  std::stop_source checkpoint_;
  std::atomic<v1::FailureReason::Kind> stop_reason_ = v1::FailureReason::PAUSED;
  std::optional<MappedDataset> data_;
  bool data_unusable_ = false;  // the server shall make the decoded set again
  std::unique_ptr<Trainer> trainer_;
};

}  // namespace normlab::engine
