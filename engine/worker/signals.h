#pragma once

#include <atomic>

namespace normlab::engine {

// What signals ask of a worker: SIGTERM, to end after the current step without an outcome (a second one ends
// the process at once); SIGUSR1, to end with a checkpoint. Process-wide, set once and never taken back.
struct SignalWishes {
  std::atomic<bool> terminating{false};
  std::atomic<bool> leaving{false};
};

// Holds both signals back from this thread and those it starts from now on, until TakeSignals. Before the
// first thread is started.
//
// No thread that computes may ever be interrupted by a handler: oneDNN's generated code keeps data on its
// stack below what the ABI leaves alone (seen with 2.6.3 on AMX: a handler that only stored a bool had the
// heap corrupted in one of ten runs).
void HoldSignals();

// Starts the thread that waits for the signals held back, and answers what they ask. Once, after
// HoldSignals. `on_termination`, if any, is called on that thread at the first SIGTERM.
const SignalWishes& TakeSignals(void (*on_termination)() = nullptr);

}  // namespace normlab::engine
