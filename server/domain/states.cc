#include "server/domain/states.h"

#include "absl/strings/str_cat.h"

namespace normlab::server {

bool IsTerminal(v1::Job::State state) {
  switch (state) {
    case v1::Job::SUCCEEDED:
    case v1::Job::DIVERGED:
    case v1::Job::FAILED:
    case v1::Job::CANCELLED:
      return true;
    default:
      return false;
  }
}

bool IsActive(v1::Job::State state) {
  return state == v1::Job::STARTING || state == v1::Job::RUNNING;
}

std::string StateName(v1::Job::State state) {
  return v1::Job::State_IsValid(state) ? v1::Job::State_Name(state)
                                       : absl::StrCat(static_cast<int>(state));
}

std::string FailureReasonName(v1::FailureReason::Kind reason) {
  return v1::FailureReason::Kind_IsValid(reason) ? v1::FailureReason::Kind_Name(reason)
                                                 : absl::StrCat(static_cast<int>(reason));
}

bool UsesUpRetry(v1::FailureReason::Kind reason) {
  switch (reason) {
    case v1::FailureReason::SERVER_LOST:
    case v1::FailureReason::PAUSED:
    case v1::FailureReason::SERVER_DRAINED:
    case v1::FailureReason::PREEMPTED:
    case v1::FailureReason::NODE_FAILED:
      return false;
    default:
      return true;
  }
}

}  // namespace normlab::server
