#include "client/cli/exit_code.h"

namespace normlab::client {

using normlab::v1::Job;

int ExitCodeForState(Job::State state) {
  switch (state) {
    case Job::SUCCEEDED:
      return kExitSucceeded;
    case Job::CANCELLED:
      return kExitCancelled;
    case Job::DIVERGED:
      return kExitDiverged;
    default:
      return kExitJobFailed;
  }
}

int ExitCodeForStatus(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitSucceeded;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kExitUnreachable;
    default:
      return kExitRefused;
  }
}

}  // namespace normlab::client
