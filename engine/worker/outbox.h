#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <variant>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/clock.h"
#include "common/steady_wait.h"
#include "engine/worker/metric_ring.h"
#include "engine/worker/report_builder.h"

#include "normlab/v1/worker.pb.h"

namespace normlab::engine {

// What the training says and the reporter has not packed yet, in its order: steps through the ring,
// so that saying them costs the training next to nothing; the rare rest (log lines, checkpoints,
// the outcome) in a queue beside it that remembers after which step each came.
//
// One producer thread calls the first group, one consumer thread the second; Close and Wake from
// any.
class Outbox {
 public:
  explicit Outbox(size_t ring_words, const common::Clock& clock = common::Clock::Real());

  // ---- Producer.

  // See MetricRing::Push: waits while the ring is full, false when closed.
  template <typename PointAt>
  bool Step(const StepInfo& info, size_t count, const PointAt& point_at) {
    return ring_.Push(info, count, point_at);
  }
  void Log(v1::LogLine::Severity severity, absl::string_view text);
  void Checkpoint(v1::CheckpointAnnouncement checkpoint);
  // The last thing to be said.
  void Finish(v1::Outcome outcome);

  // ---- Consumer.

  // Moves steps and events into `builder` until it is full or nothing is left. True: more is left.
  bool DrainInto(ReportBuilder& builder) ABSL_LOCKS_EXCLUDED(mu_);
  // There is something that should not wait for company: an event, or a ring that fills up.
  bool urgent() const ABSL_LOCKS_EXCLUDED(mu_);
  bool watched() const { return watched_.load(std::memory_order_relaxed); }
  // Waits until an event is added, Wake is called or `timeout` passed.
  void Wait(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mu_);

  // ---- Any thread.

  void Wake() ABSL_LOCKS_EXCLUDED(mu_);
  // Whether somebody follows the job, which wakes the consumer; at first nobody does.
  void SetWatched(bool watched) ABSL_LOCKS_EXCLUDED(mu_);
  // Takes no more steps and lets a waiting producer go.
  void Close() { ring_.Close(); }

 private:
  struct LogText {
    v1::LogLine::Severity severity;
    absl::Time time;
    std::string text;
  };
  struct Event {
    int64_t after_steps = 0;  // steps pushed before it
    std::variant<LogText, v1::CheckpointAnnouncement, v1::Outcome> what;
  };
  void Add(Event event) ABSL_LOCKS_EXCLUDED(mu_);
  static void Apply(Event event, ReportBuilder& builder);

  const common::Clock& clock_;
  MetricRing ring_;
  mutable absl::Mutex mu_;
  common::SteadyWait wakes_;
  std::deque<Event> events_ ABSL_GUARDED_BY(mu_);
  bool woken_ ABSL_GUARDED_BY(mu_) = false;
  std::atomic<bool> watched_ = false;

  // The consumer's own.
  int64_t popped_ = 0;
  StepEntry entry_;
};

}  // namespace normlab::engine
