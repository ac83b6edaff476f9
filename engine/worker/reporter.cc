#include "engine/worker/reporter.h"

#include <utility>

#include "common/clock.h"

namespace normlab::engine {

Reporter::Reporter(Outbox& outbox,
                   ReportBuilder builder,
                   ReportChannel& channel,
                   ReporterOptions options)
    : outbox_(outbox),
      channel_(channel),
      options_(std::move(options)),
      builder_(std::move(builder)) {
  thread_ = std::thread([this] { Run(); });
}

Reporter::~Reporter() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  outbox_.Wake();
  thread_.join();
}

void Reporter::Run() {
  while (true) {
    outbox_.Wait(options_.interval);
    {
      absl::MutexLock lock(&mu_);
      if (stopping_) {
        return;
      }
    }
    if (options_.on_tick != nullptr) {
      options_.on_tick();
    }
    if (IsTimeToSend()) {
      SendWhatIsThere();
    }
  }
}

bool Reporter::IsTimeToSend() const {
  if (outbox_.urgent()) {
    return true;
  }
  const bool steps_waited = outbox_.watched() || common::Clock::Real().Monotonic() - last_sent_ >=
                                                     options_.unwatched_interval;
  return steps_waited && channel_.backlog().reports < options_.max_small_reports;
}

void Reporter::SendWhatIsThere() {
  while (channel_.backlog().bytes < options_.max_backlog_bytes) {
    const bool more = outbox_.DrainInto(builder_);
    if (builder_.empty()) {
      return;
    }
    v1::WorkerReport report = builder_.Take();
    last_sent_ = common::Clock::Real().Monotonic();
    const bool is_last = report.has_outcome();
    channel_.Send(std::move(report));
    if (is_last) {
      absl::MutexLock lock(&mu_);
      outcome_sent_ = true;
      sent_.NotifyAll();
      return;
    }
    if (!more) {
      return;
    }
  }
}

bool Reporter::WaitUntilDelivered(absl::Duration timeout) {
  const common::Clock& clock = common::Clock::Real();
  const absl::Duration deadline = clock.Monotonic() + timeout;
  {
    absl::MutexLock lock(&mu_);
    if (!sent_.WaitFor(mu_, timeout,
                       [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return outcome_sent_; })) {
      return false;
    }
  }
  return channel_.WaitUntilAcknowledged(deadline - clock.Monotonic());
}

}  // namespace normlab::engine
