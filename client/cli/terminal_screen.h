#pragma once

#include <stop_token>
#include <string>

#include "absl/time/time.h"

#include "client/cli/output.h"
#include "common/unique_fd.h"

namespace normlab::client {

// A whole terminal for a while, as `top` has it: the other screen, no cursor, and keys that come
// without Enter. What was on the terminal before is back when the object is gone. One at a time;
// not thread-safe. Keeps a reference to the output, whose style must be a terminal's.
class TerminalScreen {
 public:
  // `stop` wakes WaitForKey.
  TerminalScreen(Output& out, const std::stop_token& stop);
  ~TerminalScreen();
  TerminalScreen(const TerminalScreen&) = delete;
  TerminalScreen& operator=(const TerminalScreen&) = delete;

  // Lines that fit.
  int Height() const;

  // Draws `text` from the upper left corner on, over what was there, without flicker; lines beyond
  // the height are left out. The text must not be wider than the terminal.
  void Draw(const std::string& text);

  // The next key, or 0 when `timeout` has passed or a stop was requested.
  int WaitForKey(absl::Duration timeout);

  // Gives the terminal back now; harmless when it was given back, or never taken. Async-signal-safe
  // and thread-safe: for an end that runs no destructors.
  static void Restore();

 private:
  struct Wake {
    int fd;
    void operator()() const;
  };

  Output& out_;
  common::UniqueFd wake_;
  bool reads_keys_ = false;
  std::stop_callback<Wake> on_stop_;
};

}  // namespace normlab::client
