// Fair shares, quotas, and what people are told about them.
#include <chrono>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/scheduler/policy.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Monotonic, and in between for whoever waits: the wall clock only tells who is older.
const absl::Duration kStart = absl::Hours(100);
const absl::Time kEpoch = absl::FromUnixSeconds(1'700'000'000);
constexpr int64_t kGiB = int64_t{1} << 30;

QueuedJob Job(std::string id, std::string owner, int cores, absl::Duration after) {
  QueuedJob job;
  job.id = std::move(id);
  job.owner = std::move(owner);
  job.cores = cores;
  job.create_time = kEpoch + after;
  job.queued_since = kStart + after;
  job.memory_bytes = kGiB;
  return job;
}

std::vector<std::string> Ids(const Decision& decision) {
  std::vector<std::string> ids;
  for (const StartAction& start : decision.starts) {
    ids.push_back(start.id);
  }
  return ids;
}

const Capacity kFour = {{0, 1, 2, 3}, 16 * kGiB};

std::string Reason(const std::string& id,
                   const std::vector<QueuedJob>& queued,
                   const std::vector<Reservation>& running,
                   const Sharing& sharing = {},
                   const HeadHistory& history = {}) {
  std::vector<const QueuedJob*> pointers;
  for (const QueuedJob& job : queued) {
    pointers.push_back(&job);
  }
  const std::vector<std::string> ids = {id};
  return ExplainQueue({pointers, running, kFour, history, kStart + absl::Seconds(9), sharing},
                      ids)[id];
}

TEST(FairShareTest, TheOwnerWhoUsedLeastForItsWeightGoesFirst) {
  Sharing sharing;
  sharing.usage = {{"ann", 900}, {"bob", 500}};
  const std::vector<QueuedJob> jobs = {Job("a", "ann", 4, absl::ZeroDuration()),
                                       Job("b", "bob", 4, absl::Seconds(1))};
  const absl::Duration now = kStart + absl::Seconds(2);
  EXPECT_THAT(Ids(Decide(jobs, {}, kFour, {}, now, sharing)), ElementsAre("b"));
  sharing.weights = {{"ann", 2}};  // 450 against 500
  EXPECT_THAT(Ids(Decide(jobs, {}, kFour, {}, now, sharing)), ElementsAre("a"));
  // Priority, ageing included, comes before the share: ann's job has waited for ten minutes.
  sharing.weights.clear();
  EXPECT_THAT(Ids(Decide({jobs[0], Job("b", "bob", 4, absl::Minutes(1))}, {}, kFour, {},
                         kStart + absl::Minutes(10), sharing)),
              ElementsAre("a"));
}

TEST(FairShareTest, OwnersTakeTurnsWithinOneDecision) {
  std::vector<QueuedJob> jobs;
  for (int i = 0; i < 6; ++i) {
    jobs.push_back(Job(absl::StrCat("a", i), "ann", 1, absl::Milliseconds(i)));
  }
  for (int i = 0; i < 6; ++i) {
    jobs.push_back(Job(absl::StrCat("b", i), "bob", 1, absl::Seconds(1 + i)));
  }
  EXPECT_THAT(Ids(Decide(jobs, {}, kFour, {}, kStart + absl::Seconds(20))),
              ElementsAre("a0", "b0", "a1", "b1"));
  Sharing sharing;
  sharing.weights = {{"ann", 3}};
  EXPECT_THAT(Ids(Decide(jobs, {}, kFour, {}, kStart + absl::Seconds(20), sharing)),
              ElementsAre("a0", "b0", "a1", "a2"));
}

TEST(QuotaTest, HoldsBackItsOwnerOnlyAndIsNoHead) {
  Sharing sharing;
  sharing.owner_max_cores = 2;
  const std::vector<QueuedJob> jobs = {
      Job("a1", "ann", 2, absl::ZeroDuration()), Job("a2", "ann", 1, absl::Seconds(1)),
      Job("b1", "bob", 1, absl::Seconds(2)), Job("b2", "bob", 1, absl::Seconds(3))};
  // ann holds one: her job of two is passed by the others, her job of one is not held back.
  const std::vector<Reservation> running = {{{0}, kGiB, "ann"}};
  const Decision decision = Decide(jobs, running, kFour, {}, kStart + absl::Seconds(500), sharing);
  EXPECT_THAT(Ids(decision), ElementsAre("b1", "a2", "b2"));
  EXPECT_THAT(decision.history.entries, IsEmpty());

  sharing = {};
  sharing.owner_max_running = 1;
  EXPECT_THAT(Ids(Decide(jobs, running, kFour, {}, kStart + absl::Seconds(500), sharing)),
              ElementsAre("b1"));
}

TEST(QueueReasonTest, NamesWhatIsMissing) {
  const std::vector<Reservation> running = {{{0, 1, 2}, kGiB, "ann"}};
  const std::vector<QueuedJob> jobs = {
      Job("one", "ann", 2, absl::ZeroDuration()), Job("two", "ann", 3, absl::Seconds(1)),
      Job("small", "ann", 1, absl::Seconds(2)), Job("giant", "ann", 5, absl::Seconds(3))};
  EXPECT_EQ(Reason("one", jobs, running), "waits for 2 cores: 1 of 4 free, 0 jobs before it");
  EXPECT_EQ(Reason("two", jobs, running), "waits for 3 cores: 1 of 4 free, 1 job before it");
  EXPECT_EQ(Reason("small", jobs, running), "waits for its turn, 2 jobs before it");
  EXPECT_THAT(Reason("giant", jobs, running),
              HasSubstr("larger server: needs 5 cores and 1.0 GiB, this one has 4 cores"));
  EXPECT_EQ(Reason("nobody", jobs, running), "");
  HeadHistory history;
  history.entries["one"] = {kStart - absl::Minutes(2), 0};
  EXPECT_THAT(Reason("small", jobs, running, {}, history), HasSubstr("waits behind jobs/one"));
  // Whoever may see this job may not see another owner's.
  std::vector<QueuedJob> others = jobs;
  others[2].owner = "bob";
  const std::string foreign = Reason("small", others, running, {}, history);
  EXPECT_THAT(foreign, HasSubstr("waits behind another owner's job"));
  EXPECT_THAT(foreign, ::testing::Not(::testing::AnyOf(HasSubstr("one"), HasSubstr("ann"))));

  QueuedJob large = Job("large", "ann", 1, absl::ZeroDuration());
  large.memory_bytes = 15 * kGiB + kGiB / 2;
  EXPECT_EQ(Reason("large", {large}, running),
            "waits for 15.5 GiB of memory: 15.0 GiB of 16.0 GiB free, 0 jobs before it");
}

TEST(QueueReasonTest, NamesTheQuota) {
  const std::vector<Reservation> running = {{{0, 1}, kGiB, "ann"}};
  const std::vector<QueuedJob> jobs = {Job("a", "ann", 2, absl::ZeroDuration()),
                                       Job("b", "bob", 4, absl::Seconds(1))};
  Sharing sharing;
  sharing.owner_max_cores = 3;
  EXPECT_EQ(Reason("a", jobs, running, sharing),
            "waits for the quota of owner ann: 2 of 3 cores in use, it needs 2");
  EXPECT_THAT(Reason("b", jobs, running, sharing), HasSubstr("but owner bob may hold 3 at most"));
  sharing = {};
  sharing.owner_max_running = 1;
  EXPECT_EQ(Reason("a", jobs, running, sharing),
            "waits for the quota of owner ann: 1 of 1 jobs run");
  EXPECT_EQ(Reason("b", jobs, running, sharing),
            "waits for 4 cores: 2 of 4 free, 0 jobs before it");
}

// Ten thousand jobs of fifty owners, nothing free that fits: the slowest case.
TEST(PolicySpeedTest, TenThousandJobsAreDecidedInMilliseconds) {
  std::vector<QueuedJob> jobs;
  for (int i = 0; i < 10'000; ++i) {
    jobs.push_back(Job(absl::StrCat("job", i), absl::StrCat("owner", i % 50), 2 + i % 3,
                       absl::Milliseconds(i * 317 % 7919)));
  }
  std::vector<const QueuedJob*> pointers;
  for (const QueuedJob& job : jobs) {
    pointers.push_back(&job);
  }
  const std::vector<Reservation> running = {{{0, 1, 2}, kGiB, "owner1"}};
  const Sharing sharing;
  HeadHistory history;
  double best_ms = 1e9;
  // The best of some, as other processes share the machine.
  for (int i = 0; i < 10; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const Decision decision =
        Decide({pointers, running, kFour, history, kStart + absl::Seconds(9), sharing});
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    best_ms = std::min(best_ms, took.count());
    EXPECT_TRUE(decision.starts.empty());
    EXPECT_EQ(decision.history.entries.size(), 1u);
  }
  RecordProperty("decide_ms", std::to_string(best_ms));
#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  constexpr double kMostMs = 5;  // measured: 1.5
  EXPECT_LT(best_ms, kMostMs);
#endif
}

}  // namespace
}  // namespace normlab::server
