#include "server/executor/executor.h"

namespace normlab::server {

absl::string_view ExitCauseName(ExitCause cause) {
  switch (cause) {
    case ExitCause::kExited:
      return "EXITED";
    case ExitCause::kSignalled:
      return "SIGNALLED";
    case ExitCause::kOutOfMemory:
      return "OUT_OF_MEMORY";
    case ExitCause::kPreempted:
      return "PREEMPTED";
    case ExitCause::kNodeFailed:
      return "NODE_FAILED";
    case ExitCause::kTimeLimit:
      return "TIME_LIMIT";
    case ExitCause::kCancelledOutside:
      return "CANCELLED_OUTSIDE";
    case ExitCause::kRefused:
      return "REFUSED";
    case ExitCause::kUnknown:
      return "UNKNOWN";
  }
  return "UNKNOWN";
}

}  // namespace normlab::server
