#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "server/executor/executor.h"

#include "normlab/v1/job.pb.h"
#include "normlab/v1/worker.pb.h"

// What attempts are lost of, in words for people. Every message ends with what to do next. Pure,
// but for reading logs.
namespace normlab::server {

// The most private memory a worker of that estimate may have.
int64_t MemoryLimit(int64_t estimate_bytes);

// Why an attempt ended whose process exited without an outcome: OUT_OF_MEMORY (with estimate and
// limit), SERVER_LOST (somebody ended it in an orderly way), NODE_FAILED (its folder or its machine went
// away, or nobody knows), WORKER_START_FAILED (it never said hello) or WORKER_CRASHED, with the last lines
// of its log; where something else than this server runs the attempts also PREEMPTED (cancelled there,
// too), TIME_LIMIT_EXCEEDED and SUBMISSION_REFUSED, with its words.
v1::Failure ExitFailure(const ProcessExit& exit,
                        bool said_hello,
                        int64_t estimate_bytes,
                        const std::string& log_path);

// NODE_FAILED: the machine could not start it.
v1::Failure NotStartedFailure(const absl::Status& status);
// SUBMISSION_REFUSED: what runs the attempts does not want it, in its words.
v1::Failure SubmissionRefusedFailure(absl::string_view why);
// `elsewhere`: it ran on another machine, and had a network to cross.
v1::Failure HelloTimeoutFailure(absl::Duration timeout,
                                bool elsewhere,
                                const std::string& log_path);
v1::Failure TimeLimitFailure(absl::Duration limit);
v1::Failure ServerLostFailure(absl::string_view how);
v1::Failure CancelledBeforeStartFailure();
// PAUSED and SERVER_DRAINED: it had not begun to train.
v1::Failure PausedBeforeStartFailure();
v1::Failure DrainedBeforeStartFailure();
v1::Failure CancelIgnoredFailure(absl::Duration grace);
// INTERNAL: the worker's report was refused because it breaks the protocol.
v1::Failure InvalidReportFailure(const absl::Status& status);
// DATA_LOSS: what is stored of the job cannot be read.
v1::Failure DamagedFailure(const absl::Status& status);
// The helper could not look at the data, or found something wrong with it.
v1::Failure DataFailure(const absl::Status& status);
v1::Failure DataFailure(const v1::DataReport& report);

// The last lines of a text file, at most `max_bytes`, as printable text; empty when there is none.
std::string LogTail(const std::string& path, size_t max_bytes);

}  // namespace normlab::server
