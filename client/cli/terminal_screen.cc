#include "client/cli/terminal_screen.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace normlab::client {
namespace {

constexpr int kHeightOfUnknown = 24;
constexpr absl::string_view kEnter = "\x1b[?1049h\x1b[?25l";  // the other screen; no cursor
constexpr char kLeave[] = "\x1b[?25h\x1b[?1049l";

// What Restore needs without an object; written before `taken` is set.
termios keys_before;
std::atomic<bool> keys_changed = false;
std::atomic<bool> taken = false;

}  // namespace

void TerminalScreen::Wake::operator()() const {
  const uint64_t one = 1;
  while (write(fd, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

TerminalScreen::TerminalScreen(Output& out, const std::stop_token& stop)
    : out_(out), wake_(eventfd(0, EFD_CLOEXEC)), on_stop_(stop, Wake{wake_.get()}) {
  if (isatty(STDIN_FILENO) == 1 && tcgetattr(STDIN_FILENO, &keys_before) == 0) {
    termios keys = keys_before;
    keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);  // signals stay: Ctrl-C, Ctrl-Z
    keys.c_cc[VMIN] = 1;
    keys.c_cc[VTIME] = 0;
    keys_changed = tcsetattr(STDIN_FILENO, TCSANOW, &keys) == 0;
    reads_keys_ = keys_changed;
  }
  taken = true;
  out_.Write(kEnter);
  out_.Flush();
}

TerminalScreen::~TerminalScreen() {
  out_.Flush();
  Restore();
}

void TerminalScreen::Restore() {
  if (!taken.exchange(false)) {
    return;
  }
  const char* text = kLeave;
  size_t left = sizeof kLeave - 1;
  while (left > 0) {
    const ssize_t count = write(STDOUT_FILENO, text, left);
    if (count < 0 && errno != EINTR) {
      break;
    }
    text += std::max<ssize_t>(count, 0);
    left -= static_cast<size_t>(std::max<ssize_t>(count, 0));
  }
  if (keys_changed.exchange(false)) {
    tcsetattr(STDIN_FILENO, TCSANOW, &keys_before);
  }
}

int TerminalScreen::Height() const {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row
                                                                         : kHeightOfUnknown;
}

void TerminalScreen::Draw(const std::string& text) {
  std::string frame = "\x1b[H";
  int left = Height();
  absl::string_view separator = "";
  for (const absl::string_view line : absl::StrSplit(absl::StripSuffix(text, "\n"), '\n')) {
    if (left-- == 0) {
      break;
    }
    absl::StrAppend(&frame, separator, line, "\x1b[K");
    separator = "\r\n";
  }
  absl::StrAppend(&frame, "\x1b[J");
  out_.Write(frame);
  out_.Flush();
}

int TerminalScreen::WaitForKey(absl::Duration timeout) {
  std::array<pollfd, 2> waiting = {
      pollfd{.fd = wake_.get(), .events = POLLIN, .revents = 0},
      // A negative descriptor is passed over.
      pollfd{.fd = reads_keys_ ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0}};
  const auto milliseconds =
      static_cast<int>(std::max<int64_t>(0, absl::ToInt64Milliseconds(timeout)));
  if (poll(waiting.data(), waiting.size(), milliseconds) <= 0 || waiting[0].revents != 0) {
    return 0;
  }
  unsigned char key = 0;
  if (read(STDIN_FILENO, &key, 1) != 1) {
    reads_keys_ = false;  // the terminal is gone: never spin on its end
    return 0;
  }
  return key;
}

}  // namespace normlab::client
