#include "server/scheduler/policy.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Monotonic, and in between for whoever waits: the wall clock only tells who is older.
const absl::Duration kStart = absl::Hours(100);
const absl::Time kEpoch = absl::FromUnixSeconds(1'700'000'000);

QueuedJob Job(std::string id,
              int cores,
              absl::Duration after = absl::ZeroDuration(),
              int priority = 0) {
  QueuedJob job;
  job.id = std::move(id);
  job.cores = cores;
  job.priority = priority;
  job.create_time = kEpoch + after;
  job.queued_since = kStart + after;
  job.memory_bytes = 10 * cores;
  return job;
}

std::vector<std::string> Ids(const Decision& decision) {
  std::vector<std::string> ids;
  for (const StartAction& start : decision.starts) {
    ids.push_back(start.id);
  }
  return ids;
}

Capacity FourCores() {
  return {{2, 3, 5, 7}, 1000};
}

TEST(PolicyTest, TakesTheLowestFreeCoresInOrderOfAge) {
  const Decision decision =
      Decide({Job("late", 1, absl::Seconds(2)), Job("early", 2, absl::Seconds(1))}, {{{3}, 100}},
             FourCores(), {}, kStart + absl::Seconds(3));
  ASSERT_THAT(Ids(decision), ElementsAre("early", "late"));
  EXPECT_THAT(decision.starts[0].cores, ElementsAre(2, 5));
  EXPECT_THAT(decision.starts[1].cores, ElementsAre(7));
}

TEST(PolicyTest, PriorityComesBeforeAgeAndWaitingRaisesIt) {
  const Capacity one = {{0}, 1000};
  const std::vector<QueuedJob> jobs = {Job("old", 1), Job("urgent", 1, absl::Minutes(19), 2)};
  // At 19 minutes the old job has gained 1, at 20 minutes 2, which makes age decide.
  EXPECT_THAT(Ids(Decide(jobs, {}, one, {}, kStart + absl::Minutes(19.5))), ElementsAre("urgent"));
  EXPECT_THAT(Ids(Decide(jobs, {}, one, {}, kStart + absl::Minutes(20))), ElementsAre("old"));
}

// Nobody gets ahead of others by asking for it.
TEST(PolicyTest, PriorityAboveTheMaximumOrdersItsOwnersJobsOnly) {
  const auto job = [](const std::string& id, const std::string& owner, int after, int priority) {
    QueuedJob made = Job(id, 1, absl::Minutes(after), priority);
    made.owner = owner;
    return made;
  };
  Sharing sharing;
  sharing.usage = {{"ann", 10'000}, {"bob", 5'000}};
  sharing.max_priority = 0;
  const std::vector<QueuedJob> jobs = {job("ann-old", "ann", 8, 0),
                                       job("ann-urgent", "ann", 9, 100), job("bob", "bob", 9, 0),
                                       job("ann-meek", "ann", 7, -1)};
  const absl::Duration now = kStart + absl::Minutes(9.5);
  const auto order = [&](const std::vector<QueuedJob>& queued) {
    return Ids(Decide(queued, {}, {{0, 1, 2, 3}, 1000}, {}, now, sharing));
  };
  // bob has used less, whatever ann asks for; and less than nothing counts.
  EXPECT_THAT(order(jobs), ElementsAre("bob", "ann-urgent", "ann-old", "ann-meek"));
  // With a maximum of its own it counts so far.
  sharing.max_priority = 1;
  EXPECT_THAT(order(jobs), ElementsAre("ann-urgent", "bob", "ann-old", "ann-meek"));
  // The turn that an old job has earned goes to its owner's urgent one.
  sharing.max_priority = 0;
  std::vector<QueuedJob> aged = jobs;
  aged[0].waited = absl::Minutes(30);
  aged[2].waited = absl::Minutes(10);
  EXPECT_THAT(order(aged), ElementsAre("ann-urgent", "bob", "ann-old", "ann-meek"));
}

TEST(PolicyTest, MemoryIsAResourceToo) {
  QueuedJob large = Job("large", 1);
  large.memory_bytes = 901;
  const Decision decision = Decide({large, Job("small", 1, absl::Seconds(1))}, {{{2}, 100}},
                                   FourCores(), {}, kStart + absl::Seconds(2));
  EXPECT_THAT(Ids(decision), ElementsAre("small"));
  large.memory_bytes = 900;
  EXPECT_THAT(Ids(Decide({large}, {{{2}, 100}}, FourCores(), {}, kStart)), ElementsAre("large"));
}

TEST(PolicyTest, NothingPassesAHeadThatHasWaitedAMinute) {
  const std::vector<Reservation> running = {{{2, 3}, 20}};
  const std::vector<QueuedJob> jobs = {Job("wide", 4), Job("narrow", 1, absl::Seconds(1))};
  const Decision first = Decide({jobs[0]}, running, FourCores(), {}, kStart);
  EXPECT_THAT(first.starts, IsEmpty());
  EXPECT_THAT(Ids(Decide(jobs, running, FourCores(), first.history, kStart + absl::Seconds(59))),
              ElementsAre("narrow"));
  EXPECT_THAT(Ids(Decide(jobs, running, FourCores(), first.history, kStart + absl::Seconds(60))),
              IsEmpty());
  EXPECT_THAT(Ids(Decide(jobs, {}, FourCores(), first.history, kStart + absl::Seconds(61))),
              ElementsAre("wide"));
}

TEST(PolicyTest, NothingPassesAHeadThatWasPassedOverTwentyTimes) {
  HeadHistory history;
  int passed = 0;
  for (int i = 0; i < 30; ++i) {
    const std::vector<QueuedJob> jobs = {Job("wide", 4),
                                         Job(absl::StrCat("narrow", i), 1, absl::Seconds(1))};
    Decision decision = Decide(jobs, {{{2}, 10}}, FourCores(), history, kStart + absl::Seconds(1));
    passed += static_cast<int>(decision.starts.size());
    history = decision.history;
  }
  EXPECT_EQ(passed, kMaxPassedOver);
}

TEST(PolicyTest, ADisplacedHeadKeepsItsHistory) {
  const std::vector<Reservation> running = {{{2, 3}, 20}};
  const HeadHistory history = Decide({Job("wide", 4)}, running, FourCores(), {}, kStart).history;
  const QueuedJob urgent = Job("urgent", 3, absl::Seconds(1), 5);
  const Decision displaced =
      Decide({Job("wide", 4), urgent}, running, FourCores(), history, kStart + absl::Seconds(30));
  EXPECT_EQ(displaced.history.entries.at("wide").since, kStart);
  const Decision back = Decide({Job("wide", 4), Job("narrow", 1, absl::Seconds(31))}, running,
                               FourCores(), displaced.history, kStart + absl::Seconds(60));
  EXPECT_THAT(back.starts, IsEmpty());
}

TEST(PolicyTest, AJobLargerThanTheServerBlocksNobody) {
  const Decision decision = Decide({Job("giant", 5), Job("normal", 4, absl::Seconds(1))}, {},
                                   FourCores(), {}, kStart + absl::Hours(10));
  EXPECT_THAT(Ids(decision), ElementsAre("normal"));
  EXPECT_TRUE(decision.history.entries.empty());
}

TEST(PolicyTest, ReservationsBeyondTheCapacityTakeNothingFromIt) {
  // The server was restarted with fewer cores; an adopted attempt holds one that it does not have
  // any more.
  const Decision decision =
      Decide({Job("a", 3), Job("b", 1)}, {{{2, 90}, 20}}, FourCores(), {}, kStart);
  EXPECT_THAT(Ids(decision), ElementsAre("a"));
}

TEST(PolicyTest, OnlyTimeInTheQueueCounts) {
  const Capacity one = {{0}, 1000};
  // Older by a day, which it spent paused; it has been back for a moment.
  QueuedJob rested = Job("rested", 1, -absl::Hours(24));
  rested.queued_since = kStart;
  const QueuedJob waiting = Job("waiting", 1, -absl::Minutes(15));
  EXPECT_EQ(EffectivePriority(rested, kStart), 0);
  EXPECT_THAT(Ids(Decide({rested, waiting}, {}, one, {}, kStart)), ElementsAre("waiting"));
  // What it waited before its pause is not forgotten.
  rested.waited = absl::Minutes(21);
  EXPECT_EQ(EffectivePriority(rested, kStart), 2);
  EXPECT_EQ(EffectivePriority(rested, kStart + absl::Minutes(9)), 3);
  EXPECT_THAT(Ids(Decide({rested, waiting}, {}, one, {}, kStart)), ElementsAre("rested"));
}

// A head of ann's, who has used much, that has lost its patience.
class ReservedTest : public ::testing::Test {
 protected:
  ReservedTest() {
    wide_.owner = "ann";
    sharing_.usage = {{"ann", 10'000}};
    history_ = Decide({wide_}, running_, FourCores(), {}, kStart, sharing_).history;
  }
  QueuedJob New(std::string id, int cores, int priority = 0) {
    QueuedJob job = Job(std::move(id), cores, now_ - kStart, priority);
    job.owner = "bob";
    return job;
  }
  Decision Next(const std::vector<QueuedJob>& jobs) {
    Decision decision = Decide(jobs, running_, FourCores(), history_, now_, sharing_);
    history_ = decision.history;
    return decision;
  }

  const std::vector<Reservation> running_ = {{{2, 3}, 20}};
  QueuedJob wide_ = Job("wide", 4);
  Sharing sharing_;
  HeadHistory history_;
  absl::Duration now_ = kStart + kHeadPatience;
};

TEST_F(ReservedTest, KeepsItsCoresWhoeverIsFirstInLineByThen) {
  // bob has used nothing, so his job would go first, and fits.
  EXPECT_THAT(Ids(Next({wide_, New("newer", 1)})), IsEmpty());
  EXPECT_EQ(history_.reserved, "wide");
  // Nor may a newer head, which waits for less, take them.
  EXPECT_THAT(Ids(Next({wide_, New("newer", 3), New("newest", 1)})), IsEmpty());
  EXPECT_EQ(history_.entries.count("newer"), 0u);
  // Not even one that has lost its patience longer ago by now, as passes count as well.
  history_.entries["older"] = {kStart - absl::Hours(1), 0};
  EXPECT_THAT(Ids(Next({wide_, New("older", 1)})), IsEmpty());
  EXPECT_EQ(history_.reserved, "wide");
  const Decision decision =
      Decide({wide_, New("older", 1)}, {}, FourCores(), history_, now_, sharing_);
  EXPECT_THAT(Ids(decision), ElementsAre("wide"));
  EXPECT_EQ(decision.history.reserved, "older");
}

TEST_F(ReservedTest, LosesThemByLeavingTheQueue) {
  EXPECT_THAT(Ids(Next({wide_, New("newer", 1)})), IsEmpty());
  EXPECT_THAT(Ids(Next({New("newer", 1)})), ElementsAre("newer"));
  EXPECT_EQ(history_.reserved, "");
  EXPECT_TRUE(history_.entries.empty());
}

TEST_F(ReservedTest, OnlyAHigherPriorityOfItsOwnGoesFirst) {
  QueuedJob aged = New("aged", 1);
  aged.waited = absl::Hours(2);
  EXPECT_EQ(EffectivePriority(aged, now_), 12);
  EXPECT_THAT(Ids(Next({wide_, aged})), IsEmpty());
  EXPECT_THAT(Ids(Next({wide_, aged, New("urgent", 1, 1)})), ElementsAre("urgent"));
  EXPECT_EQ(history_.reserved, "wide");
  // And not when the reserved one has waited for as much.
  now_ = kStart + kAgingPeriod;
  sharing_.usage.clear();
  EXPECT_THAT(Ids(Next({wide_, New("urgent", 1, 1)})), IsEmpty());
}

TEST_F(ReservedTest, SoManyOfHigherPriorityGoFirst) {
  for (int i = 0; i < kMaxOvertaken; ++i) {
    const std::string id = absl::StrCat("urgent-", i);
    EXPECT_THAT(Ids(Next({wide_, New(id, 1, 1)})), ElementsAre(id));
  }
  EXPECT_EQ(history_.reserved, "wide");
  EXPECT_THAT(Ids(Next({wide_, New("one-more", 1, 1)})), IsEmpty());
}

TEST_F(ReservedTest, OnlyPriorityThatCountsBetweenOwnersGoesFirst) {
  sharing_.max_priority = 0;
  EXPECT_THAT(Ids(Next({wide_, New("urgent", 1, 100)})), IsEmpty());
  QueuedJob own = New("own", 1, 1);
  own.owner = "ann";
  EXPECT_THAT(Ids(Next({wide_, own})), ElementsAre("own"));
}

TEST_F(ReservedTest, AMoreUrgentHeadDoesNotLetTheOthersPass) {
  const QueuedJob urgent = New("urgent", 3, 1);
  EXPECT_THAT(Ids(Next({wide_, urgent, New("small", 1)})), IsEmpty());
  EXPECT_EQ(history_.entries.count("urgent"), 1u);
  EXPECT_EQ(history_.reserved, "wide");
  EXPECT_THAT(Ids(Decide({wide_, urgent, New("small", 1)}, {}, FourCores(), history_, now_)),
              ElementsAre("urgent"));
}

TEST_F(ReservedTest, OneThatItsQuotaHoldsBackKeepsNothing) {
  sharing_.owner_max_cores = 4;
  const std::vector<Reservation> anns = {{{2}, 10, "ann"}};
  const Decision decision =
      Decide({wide_, New("newer", 1)}, anns, FourCores(), history_, now_, sharing_);
  EXPECT_THAT(Ids(decision), ElementsAre("newer"));
  // Its place is kept for when the quota has room again.
  EXPECT_EQ(decision.history.entries.at("wide").since, kStart);
}

// Of one owner's jobs that its quota holds back.
class HeldBackTest : public ::testing::Test {
 protected:
  HeldBackTest() { sharing_.owner_max_cores = 3; }
  static QueuedJob Of(const char* owner, std::string id, int cores, int priority = 0) {
    const absl::Duration after = absl::Seconds(id.back());  // in the order of the last characters
    QueuedJob job = Job(std::move(id), cores, after, priority);
    job.owner = owner;
    return job;
  }
  std::vector<std::string> Next(const std::vector<QueuedJob>& jobs, absl::Duration after) {
    const Decision decision =
        Decide(jobs, running_, FourCores(), history_, kStart + after, sharing_);
    history_ = decision.history;
    return Ids(decision);
  }

  const std::vector<Reservation> running_ = {{{2}, 10, "ann"}};
  Sharing sharing_;
  HeadHistory history_;
};

TEST_F(HeldBackTest, IsPassedByItsOwnersJobsOnlyForAWhile) {
  const std::vector<QueuedJob> jobs = {Of("ann", "a1", 3), Of("ann", "a2", 1), Of("bob", "b1", 2)};
  EXPECT_THAT(Next(jobs, absl::Minutes(5)), ElementsAre("b1", "a2"));
  EXPECT_TRUE(history_.entries.empty()) << "it is no head of the others";
  EXPECT_EQ(history_.held.size(), 1u);
  // After a minute the quota is kept for it: against its owner's jobs, not against others'.
  EXPECT_THAT(Next(jobs, absl::Minutes(6)), ElementsAre("b1"));
  EXPECT_THAT(Next({jobs[0], jobs[1], Of("ann", "a3", 1, 1)}, absl::Minutes(6)), ElementsAre("a3"));
  // When the quota has room for both, both go.
  sharing_.owner_max_cores = 5;
  EXPECT_THAT(Next({jobs[0], jobs[1]}, absl::Minutes(7)), ElementsAre("a1"));
  EXPECT_TRUE(history_.held.empty());
}

TEST_F(HeldBackTest, IsPassedSoOftenAtMost) {
  int passed = 0;
  for (int i = 0; i < 2 * kMaxPassedOver; ++i) {
    passed += static_cast<int>(
        Next({Of("ann", "older!", 3), Of("ann", absl::StrCat("later", i), 1)}, absl::Minutes(5))
            .size());
  }
  EXPECT_EQ(passed, kMaxPassedOver);
}

TEST_F(HeldBackTest, WhatIsLargerThanTheQuotaHoldsNobodyUp) {
  const std::vector<QueuedJob> jobs = {Of("ann", "a1", 4), Of("ann", "a2", 1)};
  EXPECT_THAT(Next(jobs, absl::Minutes(5)), ElementsAre("a2"));
  EXPECT_TRUE(history_.held.empty());
  EXPECT_THAT(Next(jobs, absl::Hours(5)), ElementsAre("a2"));
}

}  // namespace
}  // namespace normlab::server
