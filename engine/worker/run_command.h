#pragma once

namespace normlab::engine {

// Runs one attempt: reads a serialized WorkerAssignment from `fd` to its end, trains, and reports
// to the server until that has everything. Sets up the whole process (priority, limits, signals),
// so it is called once, from main. Returns, or exits with, one of the codes of
// common/worker_exit.h. Takes `fd`.
int RunCommand(int fd);

}  // namespace normlab::engine
