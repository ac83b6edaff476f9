#pragma once

#include <cstdint>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/steady_wait.h"
#include "engine/worker/outbox.h"
#include "engine/worker/report_builder.h"
#include "engine/worker/report_channel.h"

namespace normlab::engine {

struct ReporterOptions {
  // How long steps wait for company in a report while somebody follows the job. A report costs
  // worker and server together more than a millisecond of CPU and the server a flush of its disk,
  // however few steps it has: so often, a step is with whoever watches within 100 ms.
  absl::Duration interval = absl::Milliseconds(80);
  // The same while nobody does: a few thousandths of a core, and progress is as fresh as lists of
  // jobs need it.
  absl::Duration unwatched_interval = absl::Milliseconds(400);
  // With so many reports unacknowledged, further steps wait until there are enough for a large
  // report: a slow or absent server gets few large reports instead of many small ones.
  int64_t max_small_reports = 4;
  // Unacknowledged reports kept in memory; beyond, steps stay in the outbox until it is full and
  // the training waits.
  int64_t max_backlog_bytes = int64_t{64} << 20;
  // Called on the reporter's thread about every `interval`; may be null; must not block.
  std::function<void()> on_tick;
};

// The thread between the training and the channel: packs what is in the outbox into reports and
// sends them. Nothing is ever dropped. Does not own outbox and channel, which must outlive it; the
// destructor ends the thread and leaves in the outbox what is there.
class Reporter {
 public:
  Reporter(Outbox& outbox, ReportBuilder builder, ReportChannel& channel, ReporterOptions options);
  ~Reporter();
  Reporter(const Reporter&) = delete;
  Reporter& operator=(const Reporter&) = delete;

  // After Outbox::Finish: waits until everything is acknowledged. False: not within `timeout`, or
  // the channel ended.
  bool WaitUntilDelivered(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mu_);
  bool IsTimeToSend() const;
  void SendWhatIsThere() ABSL_LOCKS_EXCLUDED(mu_);

  Outbox& outbox_;
  ReportChannel& channel_;
  const ReporterOptions options_;
  ReportBuilder builder_;                                 // the thread's own
  absl::Duration last_sent_ = -absl::InfiniteDuration();  // the thread's own; monotonic

  absl::Mutex mu_;
  common::SteadyWait sent_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool outcome_sent_ ABSL_GUARDED_BY(mu_) = false;

  std::thread thread_;
};

}  // namespace normlab::engine
