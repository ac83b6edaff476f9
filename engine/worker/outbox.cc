#include "engine/worker/outbox.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace normlab::engine {

Outbox::Outbox(size_t ring_words, const common::Clock& clock) : clock_(clock), ring_(ring_words) {}

void Outbox::Log(v1::LogLine::Severity severity, absl::string_view text) {
  Add({ring_.pushed(), LogText{severity, clock_.Now(), std::string(text)}});
}

void Outbox::Checkpoint(v1::CheckpointAnnouncement checkpoint) {
  Add({ring_.pushed(), std::move(checkpoint)});
}

void Outbox::Finish(v1::Outcome outcome) {
  Add({ring_.pushed(), std::move(outcome)});
}

void Outbox::Add(Event event) {
  absl::MutexLock lock(&mu_);
  events_.push_back(std::move(event));
  woken_ = true;
  wakes_.NotifyAll();
}

bool Outbox::DrainInto(ReportBuilder& builder) {
  while (!builder.full()) {
    // In this order: an event that came before one of these steps is then in the queue already.
    const int64_t available = ring_.pushed();
    std::optional<Event> event;
    int64_t steps_until = available;
    {
      absl::MutexLock lock(&mu_);
      if (!events_.empty() && events_.front().after_steps <= popped_) {
        event = std::move(events_.front());
        events_.pop_front();
      } else if (!events_.empty()) {
        steps_until = std::min(available, events_.front().after_steps);
      }
    }
    if (event.has_value()) {
      Apply(*std::move(event), builder);
      continue;
    }
    if (popped_ == steps_until) {
      return false;
    }
    while (popped_ < steps_until && !builder.full() && ring_.Pop(entry_)) {
      builder.AddStep(entry_);
      ++popped_;
    }
  }
  absl::MutexLock lock(&mu_);
  return !events_.empty() || ring_.pushed() > popped_;
}

void Outbox::Apply(Event event, ReportBuilder& builder) {
  if (auto* const log = std::get_if<LogText>(&event.what)) {
    builder.AddLog(log->severity, log->time, log->text);
  } else if (auto* const checkpoint = std::get_if<v1::CheckpointAnnouncement>(&event.what)) {
    builder.AddCheckpoint(std::move(*checkpoint));
  } else {
    builder.SetOutcome(std::move(std::get<v1::Outcome>(event.what)));
  }
}

bool Outbox::urgent() const {
  absl::MutexLock lock(&mu_);
  return !events_.empty() || ring_.half_full();
}

void Outbox::Wait(absl::Duration timeout) {
  absl::MutexLock lock(&mu_);
  wakes_.WaitFor(mu_, timeout, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return woken_; });
  woken_ = false;
}

void Outbox::Wake() {
  absl::MutexLock lock(&mu_);
  woken_ = true;
  wakes_.NotifyAll();
}

void Outbox::SetWatched(bool watched) {
  if (watched_.exchange(watched) != watched && watched) {
    Wake();
  }
}

}  // namespace normlab::engine
