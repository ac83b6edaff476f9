#pragma once

#include "absl/status/status.h"

#include "normlab/v1/job.pb.h"

namespace normlab::client {

// What `normlab` returns; `normlab --help` lists them.
inline constexpr int kExitSucceeded = 0;
inline constexpr int kExitJobFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnreachable = 3;
inline constexpr int kExitRefused = 4;  // refused, not found, an invalid spec, or another error
inline constexpr int kExitCancelled = 5;
inline constexpr int kExitDiverged = 6;
inline constexpr int kExitInterrupted = 130;  // 128 + SIGINT
inline constexpr int kExitBrokenPipe = 141;   // 128 + SIGPIPE: nobody reads our output any more

// How a job ended; `state` must be terminal.
int ExitCodeForState(normlab::v1::Job::State state);

// Why a call failed.
int ExitCodeForStatus(const absl::Status& status);

}  // namespace normlab::client
