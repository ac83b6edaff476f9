#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/steady_wait.h"

namespace normlab::server {

// Tells whether the loops that do a server's work still turn. Every `interval` it asks each of them
// for an answer, on a thread of its own, and calls `on_alive` when all have answered; as long as one
// is silent, nobody hears anything. Loops that answer later count again from then on.
//
// Thread-safe; ends with its destruction, which does not wait for silent loops.
class Watchdog {
 public:
  // Something that takes work from others and does it one after the other.
  struct Loop {
    std::string name;  // for the log
    // Has the loop call `answer` once, from wherever it does its work. Must not block. An answer may
    // come late, or be dropped when the loop ends, also after the Watchdog is gone.
    std::function<void(std::function<void()> answer)> ask;
  };

  Watchdog(std::vector<Loop> loops, absl::Duration interval, std::function<void()> on_alive);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  // Shared with answers that are still to come.
  struct Answers {
    absl::Mutex mu;
    common::SteadyWait changed;
    std::vector<bool> awaited ABSL_GUARDED_BY(mu);
    bool stopping ABSL_GUARDED_BY(mu) = false;

    bool AllHere() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  };

  void Run();
  // Asks those that owe no answer, and waits for all; false: not within the interval.
  bool AskAll();

  const std::vector<Loop> loops_;
  const absl::Duration interval_;
  const std::function<void()> on_alive_;
  const std::shared_ptr<Answers> answers_;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace normlab::server
