#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "server/api/backend.h"

namespace normlab::server {

// Waits until `has_ended` says true: it is asked now, and whenever the hub has news under `key` (a job's
// id or an experiment's name). `name` is what is waited for, which was cancelled before. An UNAVAILABLE
// from `has_ended` (a disk in trouble for a moment) is asked again, any other error is returned.
//
// DEADLINE_EXCEEDED: not within 45 s (a worker that does not end when it is cancelled is killed after
// half a minute). UNAVAILABLE: the server is shutting down. Blocks the calling thread; thread-safe.
absl::Status WaitForEnd(Backend& backend,
                        const std::string& key,
                        const std::string& name,
                        const std::function<absl::StatusOr<bool>()>& has_ended);

}  // namespace normlab::server
