#pragma once

#include <string>

#include "normlab/v1/job.pb.h"

namespace normlab::server {

// SUCCEEDED, DIVERGED, FAILED, CANCELLED: nothing follows.
bool IsTerminal(v1::Job::State state);

// Starting or running: has a live attempt, which holds cores and memory.
bool IsActive(v1::Job::State state);

// "QUEUED" and so on; a number for one that this version does not know.
std::string StateName(v1::Job::State state);

// "WORKER_CRASHED" and so on.
std::string FailureReasonName(v1::FailureReason::Kind reason);

// Whether an attempt that ended so uses up one of max_retries: everything but what the service
// itself did to it.
bool UsesUpRetry(v1::FailureReason::Kind reason);

}  // namespace normlab::server
