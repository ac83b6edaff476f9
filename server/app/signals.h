#pragma once

#include <functional>
#include <thread>

#include "common/unique_fd.h"

namespace normlab::server {

// Blocks SIGTERM and SIGINT and ignores SIGPIPE in this thread and all that are started later. Call
// first in main.
void BlockSignals();

// Calls `on_signal` for every SIGTERM or SIGINT, on a thread of its own, from construction to
// destruction. The signals must be blocked in all threads: see BlockSignals.
class SignalWatcher {
 public:
  explicit SignalWatcher(std::function<void(int signal)> on_signal);
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

 private:
  void Watch();

  const std::function<void(int)> on_signal_;
  common::UniqueFd signals_;
  common::UniqueFd stop_;
  std::thread thread_;
};

}  // namespace normlab::server
