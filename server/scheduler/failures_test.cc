// How the end of a worker is told.
#include "server/scheduler/failures.h"

#include <signal.h>

#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace normlab::server {
namespace {

using ::testing::StartsWith;

std::string MessageOf(ExitCause cause, int code, std::string description) {
  ProcessExit exit;
  exit.cause = cause;
  exit.code = code;
  exit.description = std::move(description);
  return ExitFailure(exit, /*said_hello=*/true, 1000, "/no/such/log").message();
}

TEST(FailuresTest, HowAWorkerEndedIsASentence) {
  EXPECT_THAT(MessageOf(ExitCause::kSignalled, SIGKILL, "signal 9 (Killed)"),
              StartsWith("the worker ended with signal 9 (Killed), and there is no result ("));
  EXPECT_THAT(MessageOf(ExitCause::kSignalled, SIGKILL, "a rank ended by signal 9 (Killed)"),
              StartsWith("a rank ended by signal 9 (Killed), and there is no result ("));
  // Of an adopted process nothing is known.
  EXPECT_THAT(MessageOf(ExitCause::kExited, -1, "unknown"),
              StartsWith("the worker ended, and there is no result ("));
}

}  // namespace
}  // namespace normlab::server
