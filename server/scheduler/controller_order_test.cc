// Who is next, as the controller has it: clocks, waits and queues that change.
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/domain/proto_time.h"
#include "server/scheduler/controller.h"
#include "server/scheduler/controller_test_harness.h"

namespace normlab::server {
namespace {

class ControllerOrderTest : public ControllerTest {
 protected:
  void UseCores(std::vector<int> cores) {
    options_.cores = std::move(cores);
    RestartServer({});
  }
  void Finish(const std::string& id, int32_t attempt) {
    ASSERT_TRUE(ReportOutcome({id, attempt}, 1, v1::Job::SUCCEEDED).ok());
    ASSERT_TRUE(executor_->ExitWithCode({id, attempt}, 0));
  }
};

TEST_F(ControllerOrderTest, ADayOfPauseIsNoWaiting) {
  UseCores({0});
  const std::string running = Submit();
  Run(running, 1);
  const std::string rested = Submit();
  Pause(rested);
  Advance(absl::Hours(24));
  const std::string waiting = Submit();
  Advance(absl::Minutes(15));
  Resume(rested);
  Sync();
  Finish(running, 1);
  WaitForLaunch(waiting, 1);
  EXPECT_EQ(Get(rested).state(), v1::Job::QUEUED);
  EXPECT_LT(Get(rested).waited_seconds(), 1);
  EXPECT_NEAR(Get(waiting).waited_seconds(), 900, 1);
}

TEST_F(ControllerOrderTest, WhatWasWaitedBeforeAPauseCountsAfterIt) {
  UseCores({0});
  const std::string running = Submit();
  Run(running, 1);
  const std::string patient = Submit();
  Advance(absl::Minutes(25));
  Pause(patient);
  Advance(absl::Hours(1));
  const std::string waiting = Submit();
  Advance(absl::Minutes(15));
  Resume(patient);
  EXPECT_NEAR(Get(patient).waited_seconds(), 1500, 1);
  // Also in the eyes of the next server.
  const v1::Hello hello = HelloOf(WaitForLaunch(running, 1));
  WaitUntil("the identity is stored", [&] {
    return !store_->GetAttemptSecrets({running, 1})->process_identity.empty();
  });
  RestartServer({"fake/" + running + "/1"});
  ASSERT_TRUE(Connect(hello, std::make_shared<FakeSession>()).ok());
  Finish(running, 1);
  WaitForLaunch(patient, 1);
  EXPECT_EQ(Get(waiting).state(), v1::Job::QUEUED);
}

TEST_F(ControllerOrderTest, AStepOfTheWallClockIsNoWaiting) {
  UseCores({0, 1});
  const std::string running = Submit();
  Run(running, 1);
  const std::string wide = Submit({.cores = 2});
  Sync();
  // An hour has not passed: the head is patient, and is passed.
  clock_.JumpWallClock(absl::Hours(1));
  const std::string small = Submit();
  Run(small, 1);
  Advance(absl::Seconds(20));
  clock_.JumpWallClock(-absl::Hours(2));
  // Nor is a wait lost.
  Advance(absl::Seconds(40));
  Finish(small, 1);
  const std::string later = Submit();
  Sync();
  Sync();
  EXPECT_EQ(Get(later).state(), v1::Job::QUEUED) << "cores are kept for the wide one by now";
  Finish(running, 1);
  WaitForLaunch(wide, 1);
  EXPECT_NEAR(Get(wide).waited_seconds(), 60, 1);
}

TEST_F(ControllerOrderTest, AStepOfTheWallClockIsNoWaitingOfAJobThatIsPausedThenOrCancelled) {
  UseCores({0});
  const std::string running = Submit();
  Run(running, 1);
  const std::string paused = Submit();
  const std::string cancelled = Submit();
  Sync();
  Advance(absl::Seconds(40));
  clock_.JumpWallClock(absl::Hours(10));
  Pause(paused);
  RequestCancelOf(cancelled);
  for (const std::string& id : {paused, cancelled}) {
    WaitUntil("what it waited is put right", [&] { return Get(id).waited_seconds() < 3600; });
    EXPECT_NEAR(Get(id).waited_seconds(), 40, 1);
  }
  // Backwards as well.
  Resume(paused);
  Sync();
  Advance(absl::Seconds(40));
  clock_.JumpWallClock(-absl::Hours(20));
  Pause(paused);
  WaitUntil("what it waited is put right", [&] { return Get(paused).waited_seconds() > 60; });
  EXPECT_NEAR(Get(paused).waited_seconds(), 80, 1);
}

TEST_F(ControllerOrderTest, AStepOfTheWallClockIsNoUseOfCores) {
  for (const absl::Duration step : {absl::Hours(10), -absl::Hours(10)}) {
    const std::string id = Submit({.cores = 2});
    Run(id, 1);
    Advance(absl::Seconds(30));
    clock_.JumpWallClock(step);
    Finish(id, 1);
    WaitUntil("the core-seconds are put right", [&] {
      const double used = Get(id).attempts(0).core_seconds();
      return used > 1 && used < 3600;
    });
    EXPECT_NEAR(Get(id).attempts(0).core_seconds(), 60, 2);
    EXPECT_EQ(Get(id).state(), v1::Job::SUCCEEDED);
  }
}

TEST_F(ControllerOrderTest, AHeadThatLeavesTheQueueHoldsNobodyUp) {
  UseCores({0, 1});
  const std::string running = Submit();
  Run(running, 1);
  for (const bool cancel : {true, false}) {
    const std::string wide = Submit({.cores = 2});
    Sync();
    Advance(kHeadPatience);
    const std::string small = Submit();
    Sync();
    Sync();
    ASSERT_EQ(Get(small).state(), v1::Job::QUEUED);
    // Nothing else happens afterwards.
    if (cancel) {
      RequestCancelOf(wide);
    } else {
      Pause(wide);
    }
    Run(small, 1);
    Finish(small, 1);
    WaitUntil("its core is free", [&] { return controller_->GetLoad().free_cores == 1; });
  }
}

TEST_F(ControllerOrderTest, ATimeLimitIsNotOverBecauseTheClockWasSet) {
  const std::string id = Submit({.time_limit = absl::Seconds(100)});
  const SubmitRequest launch = WaitForLaunch(id, 1);
  Run(id, 1);
  WaitUntil("the identity is stored", [&] {
    return !store_->GetAttemptSecrets({id, 1})->process_identity.empty();
  });
  Advance(absl::Seconds(80));
  clock_.JumpWallClock(absl::Hours(1));
  RestartServer({"fake/" + id + "/1"}, absl::Seconds(80));
  ASSERT_TRUE(Connect(HelloOf(launch), std::make_shared<FakeSession>()).ok());
  Advance(absl::Seconds(19));
  Sync();
  EXPECT_TRUE(executor_->IsRunning({id, 1}));
  // Nor does setting it back give it another hour.
  clock_.JumpWallClock(-absl::Hours(2));
  Advance(absl::Seconds(1));
  WaitUntil("it is killed", [&] { return !executor_->IsRunning({id, 1}); });
}

}  // namespace
}  // namespace normlab::server
