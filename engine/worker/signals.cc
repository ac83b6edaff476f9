#include "engine/worker/signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <functional>
#include <thread>

namespace normlab::engine {
namespace {

sigset_t TakenSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGUSR1);
  return set;
}

void Wait(SignalWishes& wishes, void (*on_termination)()) {
  const sigset_t set = TakenSignals();
  while (true) {
    int number = 0;
    if (sigwait(&set, &number) != 0) {
      continue;
    }
    if (number == SIGUSR1) {
      wishes.leaving.store(true);
    } else if (!wishes.terminating.exchange(true)) {
      if (on_termination != nullptr) {
        on_termination();
      }
    } else {
      // The second one does not wait for the current step.
      pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
      kill(getpid(), SIGTERM);
    }
  }
}

}  // namespace

void HoldSignals() {
  const sigset_t set = TakenSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  // Whoever started this process may have had them ignored, until it is ready for them.
  signal(SIGTERM, SIG_DFL);
  signal(SIGUSR1, SIG_DFL);
}

const SignalWishes& TakeSignals(void (*on_termination)()) {
  static SignalWishes wishes;
  std::thread(Wait, std::ref(wishes), on_termination).detach();
  return wishes;
}

}  // namespace normlab::engine
