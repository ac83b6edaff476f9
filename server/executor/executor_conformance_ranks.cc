// The promises of executor.h for attempts of several processes (data_parallel.ranks), one case each.
#include <signal.h>

#include "gmock/gmock.h"

#include "common/atomic_file.h"
#include "server/executor/executor_conformance.h"

namespace normlab::server {
namespace {

using State = AttemptView::State;
using ::testing::HasSubstr;

constexpr int kRanks = 3;

TEST_P(ExecutorConformanceTest, RanksAreOneAttempt) {
  const auto identity = Submit(1, Behaviour::kExit0, kRanks);
  ASSERT_TRUE(identity.ok()) << identity.status();
  const ProcessExit exit = WaitForExit(1);
  EXPECT_EQ(exit.cause, ExitCause::kExited) << exit.description;
  EXPECT_EQ(exit.code, 0) << exit.description;
  EXPECT_EQ(under_test_->Starts(Key(1)), 1);
  if (under_test_->has_processes()) {
    EXPECT_EQ(under_test_->RankStarts(Key(1)), kRanks - 1);
  }
  ASSERT_TRUE(Submit(2, Behaviour::kExit0).ok());
  WaitForExit(2);
  EXPECT_EQ(ExitCount(1), 1u) << "told once, not once a rank";
}

TEST_P(ExecutorConformanceTest, TheExitCodeOfARankIsTheAttempts) {
  ASSERT_TRUE(Submit(1, Behaviour::kExit7, kRanks).ok());
  // The others run until they are ended, and how they end does not hide why.
  const ProcessExit exit = WaitForExit(1);
  EXPECT_EQ(exit.cause, ExitCause::kExited) << exit.description;
  EXPECT_EQ(exit.code, 7) << exit.description;
}

TEST_P(ExecutorConformanceTest, TheDeathOfARankIsTheAttempts) {
  ASSERT_TRUE(Submit(1, Behaviour::kCrash, kRanks).ok());
  const ProcessExit exit = WaitForExit(1);
  EXPECT_EQ(exit.cause, ExitCause::kSignalled) << exit.description;
  EXPECT_EQ(exit.code, SIGSEGV) << exit.description;
}

TEST_P(ExecutorConformanceTest, KillEndsAllRanks) {
  ASSERT_TRUE(Submit(1, Behaviour::kRun, kRanks).ok());
  under_test_->WaitForStart(Key(1));
  ASSERT_TRUE(Signal(1, AttemptSignal::kKill, Behaviour::kRun).ok());
  const ProcessExit exit = WaitForExit(1);
  EXPECT_EQ(exit.cause, ExitCause::kSignalled) << exit.description;
  EXPECT_EQ(exit.code, SIGKILL) << exit.description;
}

TEST_P(ExecutorConformanceTest, CheckpointReachesTheFirstRank) {
  ASSERT_TRUE(Submit(1, Behaviour::kRunPolite, kRanks).ok());
  under_test_->WaitForStart(Key(1));
  WaitForState(1, State::kRunning);
  ASSERT_TRUE(Signal(1, AttemptSignal::kCheckpoint, Behaviour::kRunPolite).ok());
  const ProcessExit exit = WaitForExit(1);
  EXPECT_EQ(exit.cause, ExitCause::kExited) << exit.description;
  EXPECT_EQ(exit.code, 6) << exit.description;
}

TEST_P(ExecutorConformanceTest, StopReachesRanks) {
  ASSERT_TRUE(Submit(1, Behaviour::kRunPolite, kRanks).ok());
  under_test_->WaitForStart(Key(1));
  WaitForState(1, State::kRunning);
  ASSERT_TRUE(Signal(1, AttemptSignal::kStop, Behaviour::kRunPolite).ok());
  const ProcessExit exit = WaitForExit(1);
  if (executor().capabilities().places || !under_test_->has_processes()) {
    EXPECT_EQ(exit.cause, ExitCause::kExited) << exit.description;
    EXPECT_EQ(exit.code, 5) << exit.description;
  } else {
    // mpirun makes a code of its own of that.
    EXPECT_NE(exit.code, 0) << exit.description;
  }
}

TEST_P(ExecutorConformanceTest, AnotherServerFindsRanksAndStopsThem) {
  const auto identity = Submit(1, Behaviour::kRunPolite, kRanks);
  ASSERT_TRUE(identity.ok());
  WaitForState(1, State::kRunning);
  under_test_->WaitForStart(Key(1));
  Restart();
  ASSERT_EQ(executor().Reconcile({{Key(1), *identity}})[0].state, State::kRunning);
  ASSERT_TRUE(Signal(1, AttemptSignal::kStop, Behaviour::kRunPolite).ok());
  const ProcessExit exit = WaitForExit(1);
  if (executor().capabilities().places) {
    EXPECT_EQ(exit.code, 5) << exit.description;
  }
  EXPECT_EQ(ExitCount(1), 1u);
}

TEST_P(ExecutorConformanceTest, AttemptsWithRanksMayGoTogether) {
  constexpr int kAttempts = 3;
  absl::Mutex mu;
  std::map<int32_t, ProcessExit> exits;
  executor().SetExitCallback([&](const ProcessExit& exit) {
    absl::MutexLock lock(&mu);
    exits[exit.attempt.number] = exit;
  });
  std::vector<SubmitRequest> group;
  for (int32_t number = 1; number <= kAttempts; ++number) {
    // The last one has no ranks, so it cannot be an element of the same array.
    group.push_back(under_test_->Request(job_, number,
                                         number == 2 ? Behaviour::kExit7 : Behaviour::kExit0,
                                         number == kAttempts ? 1 : 2));
    group.back().group = "experiments/one";
  }
  for (int32_t number = 1; number < kAttempts; ++number) {
    executor().Submit(
        group[static_cast<size_t>(number - 1)],
        [](const absl::StatusOr<std::string>& said) { EXPECT_TRUE(said.ok()) << said.status(); });
  }
  ASSERT_TRUE(SubmitRequestOf(group.back(), Behaviour::kExit0).ok());
  under_test_->Act(Key(1), Behaviour::kExit0);
  under_test_->Act(Key(2), Behaviour::kExit7);
  for (int32_t number = 1; number <= kAttempts; ++number) {
    WaitForState(number, State::kGone);
  }
  executor().SetExitCallback(nullptr);
  absl::MutexLock lock(&mu);
  for (int32_t number = 1; number <= kAttempts; ++number) {
    EXPECT_EQ(exits[number].code, number == 2 ? 7 : 0) << exits[number].description;
    EXPECT_EQ(under_test_->Starts(Key(number)), 1);
  }
}

TEST_P(ExecutorConformanceTest, TheFirstRanksOutputIsInTheLog) {
  const SubmitRequest request = under_test_->Request(job_, 13, Behaviour::kExit0, kRanks);
  ASSERT_TRUE(SubmitRequestOf(request, Behaviour::kExit0).ok());
  WaitForExit(13);
  if (under_test_->has_processes()) {
    EXPECT_THAT(common::ReadFile(request.log_path).value_or(""), HasSubstr("the output of 13"));
  }
}

}  // namespace
}  // namespace normlab::server
