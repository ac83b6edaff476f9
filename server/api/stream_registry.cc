#include "server/api/stream_registry.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/clock.h"
#include "server/domain/access_errors.h"
#include "server/domain/errors.h"

namespace normlab::server {
namespace {

constexpr absl::Duration kDrainRetry = absl::Seconds(1);
constexpr absl::Duration kOverloadRetry = absl::Seconds(1);

// Ticks that come later than this were not held up by load alone.
constexpr absl::Duration kStandstill = absl::Seconds(2);

constexpr absl::string_view kAfterSequence = "after_sequence";

// How to go on, for the end of a message.
std::string Advice(const StreamPosition& position) {
  return position.field.empty()
             ? std::string("make the call again")
             : absl::StrCat("make the call again with ", position.field, "=", position.value);
}

absl::Status WithPosition(absl::Status status, const StreamPosition& position) {
  google::rpc::ErrorInfo info =
      GetDetail<google::rpc::ErrorInfo>(status).value_or(google::rpc::ErrorInfo());
  if (!position.field.empty()) {
    (*info.mutable_metadata())[position.field] = position.value;
    if (position.field == kAfterSequence) {
      (*info.mutable_metadata())["sequence"] = position.value;
    }
  }
  AddDetail(status, info);
  return status;
}

}  // namespace

StreamPosition AfterSequence(int64_t sequence) {
  return {std::string(kAfterSequence), absl::StrCat(sequence)};
}

absl::Status StreamDrained(const StreamPosition& position) {
  const absl::Status general = ShuttingDown(kDrainRetry);
  absl::Status status(general.code(),
                      absl::StrCat("the server is shutting down and ended this stream; ",
                                   Advice(position), " when it has been restarted"));
  // The same details as any other call gets, plus the position.
  general.ForEachPayload([&status](absl::string_view type_url, const absl::Cord& payload) {
    status.SetPayload(type_url, payload);
  });
  return WithPosition(std::move(status), position);
}

absl::Status StreamReaderTooSlow(const StreamPosition& position, absl::Duration timeout) {
  return WithPosition(ReaderTooSlow(timeout, Advice(position)), position);
}

StreamRegistry::StreamRegistry(Options options)
    : options_(std::move(options)),
      last_tick_(options_.clock->Monotonic()),
      ticker_([this] { TickUntilClosed(); }) {}

StreamRegistry::~StreamRegistry() {
  {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(this, &StreamRegistry::IsEmpty));
    closed_ = true;
    changed_.NotifyAll();
  }
  ticker_.join();
}

absl::Status StreamRegistry::Add(std::shared_ptr<StreamControl> stream) {
  absl::MutexLock lock(&mu_);
  if (draining_) {
    return ShuttingDown(kDrainRetry);
  }
  if (static_cast<int>(streams_.size()) >= options_.max_streams) {
    return Overloaded(kOverloadRetry);
  }
  const StreamControl* key = stream.get();
  streams_.emplace(key, std::move(stream));
  return absl::OkStatus();
}

void StreamRegistry::Remove(const StreamControl* stream) {
  std::shared_ptr<StreamControl> removed;
  absl::MutexLock lock(&mu_);
  const auto it = streams_.find(stream);
  if (it != streams_.end()) {
    // Kept until after the lock: it may be the last reference.
    removed = std::move(it->second);
    streams_.erase(it);
    changed_.NotifyAll();
  }
}

void StreamRegistry::Drain() {
  std::vector<std::shared_ptr<StreamControl>> streams;
  {
    absl::MutexLock lock(&mu_);
    draining_ = true;
    for (const auto& [key, stream] : streams_) {
      streams.push_back(stream);
    }
  }
  for (const auto& stream : streams) {
    stream->Drain();
  }
}

bool StreamRegistry::WaitUntilEmpty(absl::Duration timeout) {
  absl::MutexLock lock(&mu_);
  return changed_.WaitFor(mu_, timeout,
                          [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return IsEmpty(); });
}

int StreamRegistry::count() const {
  absl::MutexLock lock(&mu_);
  return static_cast<int>(streams_.size());
}

void StreamRegistry::CountCutOff() const {
  if (options_.on_cut_off) {
    options_.on_cut_off();
  }
}

absl::Duration StreamRegistry::Now() const {
  return options_.clock->Monotonic() - absl::Nanoseconds(lost_ns_.load());
}

absl::Duration StreamRegistry::NowAtTick() {
  const absl::Duration now = options_.clock->Monotonic();
  const absl::Duration missed = now - last_tick_ - options_.tick;
  if (missed > kStandstill) {
    lost_ns_.fetch_add(absl::ToInt64Nanoseconds(missed));
  }
  last_tick_ = now;
  return now - absl::Nanoseconds(lost_ns_.load());
}

void StreamRegistry::TickUntilClosed() {
  std::vector<std::shared_ptr<StreamControl>> streams;
  while (true) {
    streams.clear();
    {
      absl::MutexLock lock(&mu_);
      if (changed_.WaitFor(mu_, options_.tick,
                           [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return closed_; })) {
        return;
      }
      for (const auto& [key, stream] : streams_) {
        streams.push_back(stream);
      }
    }
    const absl::Duration now = NowAtTick();
    for (const auto& stream : streams) {
      stream->Tick(now);
    }
  }
}

}  // namespace normlab::server
