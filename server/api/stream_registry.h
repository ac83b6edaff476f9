#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/clock.h"
#include "common/steady_wait.h"

namespace normlab::server {

// What the registry can ask of a stream to a client. Thread-safe; calls do not block.
class StreamControl {
 public:
  virtual ~StreamControl() = default;
  // Called every tick: to send a heartbeat, or to notice that the reader is stuck.
  virtual void Tick(absl::Duration now) = 0;
  // Ends the stream, naming the position from which to go on with the next server.
  virtual void Drain() = 0;
};

// Where the reader of a stream that broke off goes on.
struct StreamPosition {
  std::string field;  // of the request, for example after_sequence; empty: the stream has to be
                      // started anew
  std::string value;
};

// That of a stream of records: everything up to `sequence` was sent.
StreamPosition AfterSequence(int64_t sequence);

// UNAVAILABLE (SHUTTING_DOWN), with the position in message and metadata, and RetryInfo.
absl::Status StreamDrained(const StreamPosition& position);
// UNAVAILABLE (READER_TOO_SLOW), likewise: nothing was taken for `timeout`. Both have RetryInfo.
absl::Status StreamReaderTooSlow(const StreamPosition& position, absl::Duration timeout);

// Knows every open stream, ticks them, and ends them all when the server drains. Thread-safe. Must
// outlive them.
class StreamRegistry {
 public:
  struct Options {
    int max_streams = 4096;
    absl::Duration tick = absl::Milliseconds(250);
    absl::Duration write_timeout = absl::Seconds(60);  // for one message to be taken
    std::function<void()> on_cut_off;                  // a reader was too slow; for monitoring
    const common::Clock* clock = &common::Clock::Real();
  };

  explicit StreamRegistry(Options options);
  ~StreamRegistry();
  StreamRegistry(const StreamRegistry&) = delete;
  StreamRegistry& operator=(const StreamRegistry&) = delete;

  // RESOURCE_EXHAUSTED: too many streams; UNAVAILABLE: draining.
  absl::Status Add(std::shared_ptr<StreamControl> stream);
  void Remove(const StreamControl* stream);

  // Ends all streams and refuses new ones.
  void Drain();
  // Whether no stream was left within `timeout`.
  bool WaitUntilEmpty(absl::Duration timeout);
  int count() const;

  // The time that this process has had: monotonic, but without the times in which it did not run at
  // all (stopped, suspended with its machine's container, starved). What a reader did not take in
  // those is no fault of the reader's, who was perhaps stopped with it.
  absl::Duration Now() const;

  absl::Duration write_timeout() const { return options_.write_timeout; }
  void CountCutOff() const;

 private:
  // Of a tick: notices whether there was none for far too long.
  absl::Duration NowAtTick();
  void TickUntilClosed();
  bool IsEmpty() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return streams_.empty(); }

  const Options options_;
  std::atomic<int64_t> lost_ns_ = 0;
  absl::Duration last_tick_;  // the ticker's own
  mutable absl::Mutex mu_;
  common::SteadyWait changed_;
  absl::flat_hash_map<const StreamControl*, std::shared_ptr<StreamControl>> streams_
      ABSL_GUARDED_BY(mu_);
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::thread ticker_;
};

}  // namespace normlab::server
