// The promises of executor.h, one case each.
#include <signal.h>

#include <filesystem>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"

#include "common/atomic_file.h"
#include "server/executor/executor_conformance.h"

namespace normlab::server {

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ExecutorConformanceTest);

namespace {

using State = AttemptView::State;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_P(ExecutorConformanceTest, CapabilitiesDoNotContradictEachOther) {
  const ExecutorCapabilities capabilities = executor().capabilities();
  EXPECT_FALSE(capabilities.name.empty());
  EXPECT_EQ(capabilities.places, capabilities.max_attempts > 0);
  EXPECT_TRUE(capabilities.places || !capabilities.may_wait)
      << "what the server places runs at once";
}

TEST_P(ExecutorConformanceTest, SubmitAnswersAnIdentity) {
  const auto identity = Submit(1, Behaviour::kRun);
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_FALSE(identity->empty());
}

TEST_P(ExecutorConformanceTest, SubmitAgainAnswersTheSame) {
  const auto first = Submit(1, Behaviour::kRun);
  const auto second = Submit(1, Behaviour::kRun);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(*first, *second);
}

TEST_P(ExecutorConformanceTest, SubmitAgainStartsNothing) {
  ASSERT_TRUE(Submit(1, Behaviour::kRun).ok());
  under_test_->WaitForStart(Key(1));
  ASSERT_TRUE(Submit(1, Behaviour::kRun).ok());
  ASSERT_TRUE(Submit(2, Behaviour::kExit0).ok());
  WaitForExit(2);
  EXPECT_EQ(under_test_->Starts(Key(1)), 1);
}

TEST_P(ExecutorConformanceTest, SubmitTwiceAtOnceStartsOne) {
  SubmitRequest request = under_test_->Request(job_, 1, Behaviour::kRun, 1);
  std::set<std::string> identities;
  absl::Mutex mu;
  const auto note = [&](absl::StatusOr<std::string> said) {
    absl::MutexLock lock(&mu);
    identities.insert(said.value_or("failed"));
  };
  executor().Submit(request, note);
  const auto last = SubmitRequestOf(request, Behaviour::kRun);
  ASSERT_TRUE(last.ok()) << last.status();
  WaitForState(1, State::kRunning);
  absl::MutexLock lock(&mu);
  EXPECT_THAT(identities, ::testing::ElementsAre(*last));
}

TEST_P(ExecutorConformanceTest, AttemptsOfAJobAreApart) {
  const auto first = Submit(1, Behaviour::kRun);
  const auto second = Submit(2, Behaviour::kRun);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_NE(*first, *second);
}

TEST_P(ExecutorConformanceTest, ANewAttemptMayFollowAnEndedOne) {
  ASSERT_TRUE(Submit(1, Behaviour::kExit7).ok());
  WaitForExit(1);
  ASSERT_TRUE(Submit(2, Behaviour::kRun).ok());
  WaitForState(2, State::kRunning);
  EXPECT_EQ(ExitCount(2), 0u);
}

TEST_P(ExecutorConformanceTest, TellsThatItEndedWell) {
  ASSERT_TRUE(Submit(1, Behaviour::kExit0).ok());
  const ProcessExit exit = WaitForExit(1);
  EXPECT_EQ(exit.cause, ExitCause::kExited);
  EXPECT_EQ(exit.code, 0);
  EXPECT_THAT(exit.description, HasSubstr("exit code 0"));
}

TEST_P(ExecutorConformanceTest, TellsTheExitCode) {
  ASSERT_TRUE(Submit(1, Behaviour::kExit7).ok());
  const ProcessExit exit = WaitForExit(1);
  EXPECT_EQ(exit.cause, ExitCause::kExited);
  EXPECT_EQ(exit.code, 7);
  EXPECT_THAT(exit.description, HasSubstr("exit code 7"));
}

TEST_P(ExecutorConformanceTest, TellsTheSignalOfACrash) {
  ASSERT_TRUE(Submit(1, Behaviour::kCrash).ok());
  const ProcessExit exit = WaitForExit(1);
  EXPECT_EQ(exit.cause, ExitCause::kSignalled);
  EXPECT_EQ(exit.code, SIGSEGV);
}

TEST_P(ExecutorConformanceTest, TellsEachExitOnce) {
  ASSERT_TRUE(Submit(1, Behaviour::kExit0).ok());
  WaitForExit(1);
  // A later one has been told as well, so nothing more is on its way.
  ASSERT_TRUE(Submit(2, Behaviour::kExit0).ok());
  WaitForExit(2);
  EXPECT_EQ(ExitCount(1), 1u);
}

TEST_P(ExecutorConformanceTest, TellsWhoseExitItIs) {
  ASSERT_TRUE(Submit(1, Behaviour::kRun).ok());
  ASSERT_TRUE(Submit(2, Behaviour::kExit7).ok());
  ASSERT_TRUE(Submit(3, Behaviour::kExit0).ok());
  EXPECT_EQ(WaitForExit(2).code, 7);
  EXPECT_EQ(WaitForExit(3).code, 0);
  EXPECT_EQ(ExitCount(1), 0u);
}

TEST_P(ExecutorConformanceTest, AttemptsOfAGroupEndEachItsOwnWay) {
  std::vector<std::pair<SubmitRequest, Behaviour>> group;
  for (int32_t number = 1; number <= 5; ++number) {
    const Behaviour behaviour = number == 3   ? Behaviour::kExit7
                                : number == 4 ? Behaviour::kCrash
                                              : Behaviour::kExit0;
    group.emplace_back(under_test_->Request(job_, number, behaviour, 1), behaviour);
    group.back().first.group = "experiments/one";
  }
  absl::Mutex mu;
  std::map<int32_t, ProcessExit> exits;
  executor().SetExitCallback([&](const ProcessExit& exit) {
    absl::MutexLock lock(&mu);
    exits[exit.attempt.number] = exit;
  });
  // All are asked for before the first is answered, where that takes time.
  for (size_t i = 0; i + 1 < group.size(); ++i) {
    executor().Submit(group[i].first, [](const absl::StatusOr<std::string>& said) {
      EXPECT_TRUE(said.ok()) << said.status();
    });
  }
  ASSERT_TRUE(SubmitRequestOf(group.back().first, group.back().second).ok());
  for (size_t i = 0; i + 1 < group.size(); ++i) {
    under_test_->Act(group[i].first.attempt, group[i].second);
  }
  for (int32_t number = 1; number <= 5; ++number) {
    WaitForState(number, State::kGone);
  }
  executor().SetExitCallback(nullptr);
  absl::MutexLock lock(&mu);
  EXPECT_EQ(exits.size(), 5u);
  for (const auto& [number, exit] : exits) {
    EXPECT_EQ(exit.code, number == 3 ? 7 : number == 4 ? SIGSEGV : 0) << exit.description;
  }
  for (int32_t number = 1; number <= 5; ++number) {
    EXPECT_EQ(under_test_->Starts(Key(number)), 1);
  }
}

TEST_P(ExecutorConformanceTest, ObserveSeesARunningAttempt) {
  const auto identity = Submit(1, Behaviour::kRun);
  ASSERT_TRUE(identity.ok());
  const AttemptView view = WaitForState(1, State::kRunning);
  EXPECT_EQ(view.identity, *identity);
  EXPECT_GE(view.running_for, absl::ZeroDuration());
  EXPECT_LT(view.running_for, absl::Minutes(2));
}

TEST_P(ExecutorConformanceTest, ObserveOfNothingIsNothing) {
  EXPECT_THAT(executor().Observe({}), IsEmpty());
}

TEST_P(ExecutorConformanceTest, ObserveDoesNotKnowWhatWasNeverSubmitted) {
  const AttemptView view = Look(41);
  EXPECT_EQ(view.state, State::kGone);
  EXPECT_FALSE(view.reason.empty());
  EXPECT_EQ(view.attempt.number, 41);
}

TEST_P(ExecutorConformanceTest, ObserveSaysGoneWhenTheExitWasTold) {
  ASSERT_TRUE(Submit(1, Behaviour::kExit0).ok());
  WaitForExit(1);
  EXPECT_EQ(Look(1).state, State::kGone);
}

TEST_P(ExecutorConformanceTest, ObserveKeepsTheOrderOfTheQuestion) {
  ASSERT_TRUE(Submit(2, Behaviour::kRun).ok());
  ASSERT_TRUE(Submit(1, Behaviour::kRun).ok());
  WaitForState(1, State::kRunning);
  WaitForState(2, State::kRunning);
  const std::vector<AttemptKey> keys = {Key(2), Key(9), Key(1), Key(2)};
  const std::vector<AttemptView> views = executor().Observe(keys);
  ASSERT_EQ(views.size(), 4u);
  for (size_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(views[i].attempt.number, keys[i].number);
    EXPECT_EQ(views[i].state == State::kGone, keys[i].number == 9);
  }
}

TEST_P(ExecutorConformanceTest, KillEndsAnAttempt) {
  ASSERT_TRUE(Submit(1, Behaviour::kRun).ok());
  under_test_->WaitForStart(Key(1));
  ASSERT_TRUE(Signal(1, AttemptSignal::kKill, Behaviour::kRun).ok());
  const ProcessExit exit = WaitForExit(1);
  EXPECT_EQ(exit.cause, ExitCause::kSignalled);
  EXPECT_EQ(exit.code, SIGKILL) << exit.description;
}

TEST_P(ExecutorConformanceTest, KillEndsAStubbornOne) {
  ASSERT_TRUE(Submit(1, Behaviour::kRunStubborn).ok());
  under_test_->WaitForStart(Key(1));
  ASSERT_TRUE(Signal(1, AttemptSignal::kKill, Behaviour::kRunStubborn).ok());
  EXPECT_EQ(WaitForExit(1).cause, ExitCause::kSignalled);
}

TEST_P(ExecutorConformanceTest, KillLeavesTheOthers) {
  ASSERT_TRUE(Submit(1, Behaviour::kRun).ok());
  ASSERT_TRUE(Submit(2, Behaviour::kRun).ok());
  WaitForState(2, State::kRunning);
  ASSERT_TRUE(Signal(1, AttemptSignal::kKill, Behaviour::kRun).ok());
  WaitForExit(1);
  EXPECT_EQ(WaitForState(2, State::kRunning).state, State::kRunning);
  EXPECT_EQ(ExitCount(2), 0u);
}

TEST_P(ExecutorConformanceTest, KillRightAfterSubmitEndsIt) {
  ASSERT_TRUE(Submit(1, Behaviour::kRun).ok());
  ASSERT_TRUE(Signal(1, AttemptSignal::kKill, Behaviour::kRun).ok());
  EXPECT_EQ(WaitForExit(1).cause, ExitCause::kSignalled);
}

TEST_P(ExecutorConformanceTest, KillTwiceIsToldOnce) {
  ASSERT_TRUE(Submit(1, Behaviour::kRun).ok());
  ASSERT_TRUE(Signal(1, AttemptSignal::kKill, Behaviour::kRun).ok());
  ASSERT_TRUE(Signal(1, AttemptSignal::kKill, Behaviour::kRun).ok());
  WaitForExit(1);
  ASSERT_TRUE(Submit(2, Behaviour::kExit0).ok());
  WaitForExit(2);
  EXPECT_EQ(ExitCount(1), 1u);
}

TEST_P(ExecutorConformanceTest, KillOfWhatIsGoneIsFine) {
  ASSERT_TRUE(Submit(1, Behaviour::kExit0).ok());
  WaitForExit(1);
  EXPECT_TRUE(Signal(1, AttemptSignal::kKill, Behaviour::kExit0).ok());
}

TEST_P(ExecutorConformanceTest, SignalsToWhatNeverWasAreFine) {
  for (const AttemptSignal signal :
       {AttemptSignal::kCheckpoint, AttemptSignal::kStop, AttemptSignal::kKill}) {
    EXPECT_TRUE(executor().Signal(Key(77), signal).ok());
  }
  EXPECT_EQ(ExitCount(77), 0u);
}

TEST_P(ExecutorConformanceTest, StopIsTheWorkersToFollow) {
  ASSERT_TRUE(Submit(1, Behaviour::kRunPolite).ok());
  under_test_->WaitForStart(Key(1));
  WaitForState(1, State::kRunning);
  ASSERT_TRUE(Signal(1, AttemptSignal::kStop, Behaviour::kRunPolite).ok());
  const ProcessExit exit = WaitForExit(1);
  EXPECT_EQ(exit.cause, ExitCause::kExited);
  EXPECT_EQ(exit.code, 5) << exit.description;
}

TEST_P(ExecutorConformanceTest, CheckpointIsTheWorkersToFollow) {
  ASSERT_TRUE(Submit(1, Behaviour::kRunPolite).ok());
  under_test_->WaitForStart(Key(1));
  WaitForState(1, State::kRunning);
  ASSERT_TRUE(Signal(1, AttemptSignal::kCheckpoint, Behaviour::kRunPolite).ok());
  const ProcessExit exit = WaitForExit(1);
  EXPECT_EQ(exit.cause, ExitCause::kExited);
  EXPECT_EQ(exit.code, 6) << exit.description;
}

TEST_P(ExecutorConformanceTest, AStubbornWorkerOutlivesPoliteSignals) {
  ASSERT_TRUE(Submit(1, Behaviour::kRunStubborn).ok());
  under_test_->WaitForStart(Key(1));
  WaitForState(1, State::kRunning);
  ASSERT_TRUE(Signal(1, AttemptSignal::kCheckpoint, Behaviour::kRunStubborn).ok());
  // What comes after it has been done, so it has as well.
  ASSERT_TRUE(Submit(2, Behaviour::kExit0).ok());
  WaitForExit(2);
  EXPECT_EQ(Look(1).state, State::kRunning);
  EXPECT_EQ(ExitCount(1), 0u);
}

TEST_P(ExecutorConformanceTest, AnotherServerFindsARunningAttempt) {
  const auto identity = Submit(1, Behaviour::kRun);
  ASSERT_TRUE(identity.ok());
  WaitForState(1, State::kRunning);
  under_test_->WaitForStart(Key(1));
  Restart();
  const auto views = executor().Reconcile({{Key(1), *identity}});
  ASSERT_EQ(views.size(), 1u);
  EXPECT_EQ(views[0].state, State::kRunning) << views[0].reason;
  EXPECT_EQ(views[0].identity, *identity);
  EXPECT_EQ(under_test_->Starts(Key(1)), 1);
}

TEST_P(ExecutorConformanceTest, AnotherServerIsToldTheExit) {
  const auto identity = Submit(1, Behaviour::kRunStubborn);
  ASSERT_TRUE(identity.ok());
  WaitForState(1, State::kRunning);
  Restart();
  ASSERT_EQ(executor().Reconcile({{Key(1), *identity}})[0].state, State::kRunning);
  ASSERT_TRUE(Signal(1, AttemptSignal::kKill, Behaviour::kRunStubborn).ok());
  WaitForExit(1);
  EXPECT_EQ(ExitCount(1), 1u);
}

TEST_P(ExecutorConformanceTest, AnotherServerDoesNotStartItAgain) {
  const auto identity = Submit(1, Behaviour::kRun);
  ASSERT_TRUE(identity.ok());
  WaitForState(1, State::kRunning);
  under_test_->WaitForStart(Key(1));
  Restart();
  ASSERT_EQ(executor().Reconcile({{Key(1), *identity}})[0].state, State::kRunning);
  const auto again = Submit(1, Behaviour::kRun);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*again, *identity);
  EXPECT_EQ(under_test_->Starts(Key(1)), 1);
}

TEST_P(ExecutorConformanceTest, AnotherServerIsToldWhatIsGone) {
  const auto identity = Submit(1, Behaviour::kExit7);
  ASSERT_TRUE(identity.ok());
  WaitForExit(1);
  Restart();
  const auto views = executor().Reconcile({{Key(1), *identity}});
  ASSERT_EQ(views.size(), 1u);
  EXPECT_EQ(views[0].state, State::kGone);
  EXPECT_FALSE(views[0].reason.empty());
  EXPECT_EQ(Look(1).state, State::kGone);
}

TEST_P(ExecutorConformanceTest, AnIdentityThatIsNoneIsGone) {
  const auto views = executor().Reconcile({{Key(1), "nonsense"}});
  ASSERT_EQ(views.size(), 1u);
  EXPECT_EQ(views[0].state, State::kGone);
}

TEST_P(ExecutorConformanceTest, AnAttemptWithoutAnIdentityIsFoundOrGone) {
  const auto identity = Submit(1, Behaviour::kRun);
  ASSERT_TRUE(identity.ok());
  WaitForState(1, State::kRunning);
  Restart();
  under_test_->ForgetIdentity(Key(1), *identity);
  const auto views = executor().Reconcile({{Key(1), ""}, {Key(2), ""}});
  ASSERT_EQ(views.size(), 2u);
  if (executor().capabilities().finds_unrecorded) {
    EXPECT_EQ(views[0].state, State::kRunning) << views[0].reason;
    EXPECT_EQ(views[0].identity, *identity);
  } else {
    EXPECT_EQ(views[0].state, State::kGone);
    // For the end of this case only.
    EXPECT_EQ(executor().Reconcile({{Key(1), *identity}})[0].state, State::kRunning);
  }
  EXPECT_EQ(views[1].state, State::kGone) << "it never was";
}

TEST_P(ExecutorConformanceTest, ReconcileKeepsTheOrderOfTheQuestion) {
  const auto first = Submit(1, Behaviour::kRun);
  const auto third = Submit(3, Behaviour::kRun);
  ASSERT_TRUE(first.ok() && third.ok());
  WaitForState(1, State::kRunning);
  WaitForState(3, State::kRunning);
  Restart();
  const auto views =
      executor().Reconcile({{Key(3), *third}, {Key(2), "nonsense"}, {Key(1), *first}});
  ASSERT_EQ(views.size(), 3u);
  EXPECT_EQ(views[0].identity, *third);
  EXPECT_EQ(views[1].state, State::kGone);
  EXPECT_EQ(views[2].identity, *first);
}

TEST_P(ExecutorConformanceTest, ReconcileOfNothingIsNothing) {
  EXPECT_THAT(executor().Reconcile({}), IsEmpty());
}

TEST_P(ExecutorConformanceTest, NobodyIsToldAfterTheCallbackIsTakenAway) {
  ASSERT_TRUE(Submit(1, Behaviour::kRun).ok());
  WaitForState(1, State::kRunning);
  executor().SetExitCallback(nullptr);
  ASSERT_TRUE(Signal(1, AttemptSignal::kKill, Behaviour::kRun).ok());
  WaitForState(1, State::kGone);
  EXPECT_EQ(ExitCount(1), 0u);
}

TEST_P(ExecutorConformanceTest, UsageCountsWhatRuns) {
  EXPECT_EQ(executor().GetUsage().processes, 0);
  ASSERT_TRUE(Submit(1, Behaviour::kRun).ok());
  WaitForState(1, State::kRunning);
  if (under_test_->has_processes()) {
    EXPECT_EQ(executor().GetUsage().processes, 1);
  }
  EXPECT_TRUE(executor().Health().ok());
}

TEST_P(ExecutorConformanceTest, TheWorkersOutputIsInItsLog) {
  SubmitRequest request = under_test_->Request(job_, 13, Behaviour::kExit0, 1);
  ASSERT_TRUE(SubmitRequestOf(request, Behaviour::kExit0).ok());
  WaitForExit(13);
  if (under_test_->has_processes()) {
    EXPECT_THAT(common::ReadFile(request.log_path).value_or(""), HasSubstr("the output of 13"));
  }
}

TEST_P(ExecutorConformanceTest, TheSecretStaysNowhere) {
  SubmitRequest request = under_test_->Request(job_, 1, Behaviour::kRun, 1);
  ASSERT_TRUE(SubmitRequestOf(request, Behaviour::kRun).ok());
  under_test_->WaitForStart(Key(1));
  if (!under_test_->has_processes()) {
    return;
  }
  for (const auto& file :
       std::filesystem::recursive_directory_iterator(request.assignment.attempt_folder())) {
    if (file.is_regular_file()) {
      EXPECT_FALSE(absl::StrContains(common::ReadFile(file.path().string()).value_or(""),
                                     request.assignment.secret()))
          << file.path();
    }
  }
  // Of the processes that know of this attempt by their arguments, or by where they are.
  for (const auto& process : std::filesystem::directory_iterator("/proc")) {
    for (const char* what : {"/cmdline", "/environ"}) {
      EXPECT_FALSE(absl::StrContains(common::ReadFile(process.path().string() + what).value_or(""),
                                     request.assignment.secret()))
          << process.path() << what;
    }
  }
}

}  // namespace
}  // namespace normlab::server
