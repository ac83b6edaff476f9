#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "server/app/options.h"
#include "server/executor/executor.h"

namespace normlab::server {

// What runs the jobs of a server with these options. `work_mark` tells its work folder from others'.
// FAILED_PRECONDITION, with the flag and what to do: it cannot.
absl::StatusOr<std::unique_ptr<Executor>> StartExecutor(const ServerOptions& options,
                                                        const std::string& work_mark);

}  // namespace normlab::server
