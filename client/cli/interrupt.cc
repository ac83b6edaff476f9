#include "client/cli/interrupt.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

namespace normlab::client {
namespace {

constexpr int kSignalExitBase = 128;  // as shells report a death by signal

}  // namespace

InterruptScope::InterruptScope(void (*before_exit)()) : before_exit_(before_exit) {
  sigset_t handled;
  sigemptyset(&handled);
  sigaddset(&handled, SIGINT);
  sigaddset(&handled, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &handled, &previous_mask_);
  signals_ = common::UniqueFd(signalfd(-1, &handled, SFD_CLOEXEC));
  quit_ = common::UniqueFd(eventfd(0, EFD_CLOEXEC));
  if (!signals_.valid() || !quit_.valid()) {
    // Without descriptors left there is no orderly stop; the default, to end at once, still works.
    pthread_sigmask(SIG_SETMASK, &previous_mask_, nullptr);
    return;
  }
  listener_ = std::thread([this] { Listen(); });
}

InterruptScope::~InterruptScope() {
  if (!listener_.joinable()) {
    return;
  }
  const uint64_t one = 1;
  while (write(quit_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
  listener_.join();
  pthread_sigmask(SIG_SETMASK, &previous_mask_, nullptr);
}

void InterruptScope::Listen() {
  while (true) {
    std::array<pollfd, 2> waiting = {pollfd{.fd = signals_.get(), .events = POLLIN, .revents = 0},
                                     pollfd{.fd = quit_.get(), .events = POLLIN, .revents = 0}};
    if (poll(waiting.data(), waiting.size(), -1) < 0) {
      if (errno == EINTR) {
        continue;
      }
      return;
    }
    signalfd_siginfo info{};
    if ((waiting[0].revents & POLLIN) != 0 &&
        read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      const int number = static_cast<int>(info.ssi_signo);
      if (signal_.exchange(number) != 0) {
        if (before_exit_ != nullptr) {
          before_exit_();
        }
        _exit(kSignalExitBase + number);  // asked twice: no more waiting
      }
      stop_.request_stop();
    }
    if ((waiting[1].revents & POLLIN) != 0) {
      return;
    }
  }
}

}  // namespace normlab::client
