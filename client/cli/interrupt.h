#pragma once

#include <atomic>
#include <csignal>
#include <stop_token>
#include <thread>

#include "common/unique_fd.h"

namespace normlab::client {

// While it lives, SIGINT and SIGTERM request a stop instead of ending the process; a second one
// ends it at once. Make it before anything that starts threads (a Client), so that they inherit the
// blocked signals. One at a time; made and destroyed on the same thread.
class InterruptScope {
 public:
  // `before_exit` is called, on another thread, right before a second signal ends the process.
  explicit InterruptScope(void (*before_exit)() = nullptr);
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  std::stop_token token() const { return stop_.get_token(); }
  // The signal that came; 0: none yet. Thread-safe.
  int signal() const { return signal_.load(); }

 private:
  void Listen();

  void (*const before_exit_)();
  sigset_t previous_mask_{};
  std::stop_source stop_;
  std::atomic<int> signal_{0};
  common::UniqueFd signals_;
  common::UniqueFd quit_;
  std::thread listener_;
};

}  // namespace normlab::client
