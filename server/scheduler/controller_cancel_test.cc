// Cancellation in every state, and the end of the controller itself.
#include <signal.h>

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/scheduler/controller.h"
#include "server/scheduler/controller_test_harness.h"

namespace normlab::server {
namespace {

TEST_F(ControllerTest, CancelWhileQueued) {
  const std::string running = Submit({.cores = 4});
  Run(running, 1);
  const std::string id = Submit();
  RequestCancelOf(id);
  EXPECT_EQ(Get(id).state(), v1::Job::CANCELLED);
  ASSERT_TRUE(ReportOutcome({running, 1}, 1, v1::Job::SUCCEEDED).ok());
  ASSERT_TRUE(executor_->ExitWithCode({running, 1}, 0));
  WaitUntil("the cores are free", [&] { return controller_->GetLoad().free_cores == 4; });
  Sync();
  EXPECT_EQ(controller_->GetLoad().queued, 0);
  EXPECT_EQ(executor_->launches().size(), 1u);
}

TEST_F(ControllerTest, CancelWhileTheDataIsLookedAt) {
  helper_.Hold();
  const std::string id = Submit();
  WaitUntil("the helper is asked", [&] { return helper_.requests().size() == 1; });
  RequestCancelOf(id);
  WaitForState(id, v1::Job::CANCELLED);
  helper_.Release();
  Sync();
  EXPECT_TRUE(executor_->launches().empty());
  WaitUntil("the cores are free", [&] { return controller_->GetLoad().free_cores == 4; });
}

TEST_F(ControllerTest, CancelBeforeTheHello) {
  const std::string id = Submit();
  WaitForLaunch(id, 1);
  Sync();
  RequestCancelOf(id);
  WaitForState(id, v1::Job::CANCELLED);
  EXPECT_FALSE(executor_->IsRunning({id, 1}));
}

TEST_F(ControllerTest, CancelWhileRunningAsksTheWorker) {
  const std::string id = Submit();
  const auto session = Run(id, 1);
  RequestCancelOf(id);
  RequestCancelOf(id);  // idempotent
  WaitUntil("the worker is asked", [&] { return session->stops() > 0; });
  Sync();
  EXPECT_EQ(session->stops(), 1);
  EXPECT_EQ(Get(id).state(), v1::Job::RUNNING) << "until the step is done";
  ASSERT_TRUE(ReportOutcome({id, 1}, 1, v1::Job::CANCELLED).ok());
  EXPECT_EQ(Get(id).state(), v1::Job::CANCELLED);
  ASSERT_TRUE(executor_->ExitWithCode({id, 1}, 0));
  EXPECT_TRUE(executor_->kills().empty());
}

TEST_F(ControllerTest, AWorkerThatDoesNotStopIsKilled) {
  const std::string id = Submit({.max_retries = 5});
  const auto session = Run(id, 1);
  RequestCancelOf(id);
  Advance(options_.cancel_grace - absl::Milliseconds(1));
  Sync();
  EXPECT_TRUE(executor_->IsRunning({id, 1}));
  Advance(absl::Milliseconds(1));
  WaitUntil("it is killed", [&] { return !executor_->IsRunning({id, 1}); });
  controller_->Disconnected({id, 1}, session.get());
  WaitForState(id, v1::Job::CANCELLED);
}

TEST_F(ControllerTest, AReconnectingWorkerIsToldOfACancellationItMissed) {
  const std::string id = Submit();
  const auto first = Run(id, 1);
  controller_->Disconnected({id, 1}, first.get());
  RequestCancelOf(id);
  const auto second = Run(id, 1);
  WaitUntil("it is told", [&] { return second->stops() == 1; });
}

TEST_F(ControllerTest, CrashAfterACancellationIsACancellation) {
  const std::string id = Submit({.max_retries = 5});
  const auto session = Run(id, 1);
  RequestCancelOf(id);
  controller_->Disconnected({id, 1}, session.get());
  ExitBySignal({id, 1}, SIGKILL);
  WaitForState(id, v1::Job::CANCELLED);
}

TEST_F(ControllerTest, StopLeavesWorkersAloneAndAnswersEverybody) {
  const std::string id = Submit();
  const auto session = Run(id, 1);
  controller_->Stop();
  ASSERT_TRUE(session->closed().has_value());
  EXPECT_EQ(session->closed()->code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(executor_->IsRunning({id, 1}));
  EXPECT_EQ(Connect(HelloOf(WaitForLaunch(id, 1)), session).status().code(),
            absl::StatusCode::kUnavailable);
  const std::string late = Submit();
  controller_->Stop();
  ExitBySignal({id, 1}, SIGKILL);
  controller_.reset();
  EXPECT_EQ(Get(late).state(), v1::Job::QUEUED);
  EXPECT_EQ(Get(id).state(), v1::Job::RUNNING) << "the next server finds out";
}

}  // namespace
}  // namespace normlab::server
