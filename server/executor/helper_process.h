#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "server/executor/helper.h"

namespace normlab::server {

struct HelperProcessOptions {
  std::string worker_binary;  // absolute path of normlab-worker, run with --helper
  std::string log_path;  // stdout and stderr of the helper are appended there; empty: inherited
  int64_t memory_limit_bytes = int64_t{4} << 30;  // RLIMIT_DATA; 0: none
  // A request's timeout counts from when it is sent to the helper, not from the call: for callers who
  // wait for as long as it takes others to be done, and whose own request may take so long.
  bool timeout_from_sending = false;
  absl::Duration min_restart_delay = absl::Milliseconds(100);  // doubles from crash to crash ...
  absl::Duration max_restart_delay = absl::Seconds(5);  // ... up to here; an answer resets it
};

// A Helper in a child process, spoken to over a socket pair with length-delimited messages (a
// little-endian uint32 of at most kMaxFrameBytes, then the message). One thread of its own does all I/O and
// runs the callbacks, which must not block.
//
// The helper gets one request at a time (those of Call in order, then those of CallInTurn, owner by
// owner), so a crash is the fault of that one: only its
// caller gets INTERNAL, and the others are sent to the next process. A request whose caller has given
// up before its turn is never sent. FAILED_PRECONDITION:
// worker_binary cannot be run. Destruction answers UNAVAILABLE to everything outstanding.
absl::StatusOr<std::unique_ptr<Helper>> NewHelperProcess(HelperProcessOptions options);

}  // namespace normlab::server
