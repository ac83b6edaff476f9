#include "server/scheduler/policy.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const absl::Time kStart = absl::FromUnixSeconds(1'700'000'000);

QueuedJob Job(std::string id,
              int cores,
              absl::Duration after = absl::ZeroDuration(),
              int priority = 0) {
  QueuedJob job;
  job.id = std::move(id);
  job.cores = cores;
  job.priority = priority;
  job.create_time = kStart + after;
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

// A random history of submissions, ends and cancellations, with the rules checked at every
// decision.
class Simulation {
 public:
  explicit Simulation(uint32_t seed) : random_(seed) {
    capacity_.cores = {0, 1, 2, 3, 4, 5, 6};
    capacity_.memory_bytes = 1000;
  }

  void Step() {
    now_ += absl::Milliseconds(Draw(0, 4000));
    EndOverdue();
    const int kind = Draw(0, 99);
    // Submissions outpace what can be served for a while, then pause: queues grow and drain.
    const bool rush = (steps_++ / 500) % 2 == 0;
    if (kind < (rush ? 60 : 8)) {
      Submit();
    } else if (kind < 90) {
      EndOne();
    } else if (!queued_.empty()) {
      queued_.erase(std::next(queued_.begin(), Draw(0, static_cast<int>(queued_.size()) - 1)));
    }
    Schedule();
  }

  void Drain() {
    for (int i = 0; i < 200'000 && !(queued_.empty() && running_.empty()); ++i) {
      now_ += absl::Seconds(1);
      EndOverdue();
      Schedule();
    }
    EXPECT_TRUE(queued_.empty());
  }

  int started() const { return started_; }
  int backfilled() const { return backfilled_; }
  int held_back() const { return held_back_; }
  absl::Duration longest_head_wait() const { return longest_head_wait_; }
  static constexpr absl::Duration kLongestRun = absl::Seconds(90);

 private:
  struct Running {
    Reservation reservation;
    absl::Time end;
  };

  int Draw(int from, int to) { return std::uniform_int_distribution<int>(from, to)(random_); }

  void Submit() {
    QueuedJob job;
    job.id = absl::StrCat("job", next_id_++);
    job.priority = Draw(0, 9) == 0 ? Draw(-2, 2) : 0;
    job.create_time = now_;
    job.cores = Draw(0, 4) == 0 ? Draw(1, 7) : Draw(1, 2);
    job.memory_bytes = Draw(0, 9) == 0 ? Draw(1, 1000) : Draw(1, 200);
    queued_[job.id] = job;
  }

  void EndOne() {
    if (!running_.empty()) {
      running_.erase(std::next(running_.begin(), Draw(0, static_cast<int>(running_.size()) - 1)));
    }
  }

  void EndOverdue() {
    for (auto it = running_.begin(); it != running_.end();) {
      it = it->second.end <= now_ ? running_.erase(it) : std::next(it);
    }
  }

  bool Before(const QueuedJob& a, const QueuedJob& b) const {
    const int64_t pa = EffectivePriority(a, now_);
    const int64_t pb = EffectivePriority(b, now_);
    return pa != pb
               ? pa > pb
               : (a.create_time != b.create_time ? a.create_time < b.create_time : a.id < b.id);
  }

  void Schedule() {
    std::vector<QueuedJob> queued;
    for (const auto& [id, job] : queued_) {
      queued.push_back(job);
    }
    std::vector<Reservation> reservations;
    for (const auto& [id, running] : running_) {
      reservations.push_back(running.reservation);
    }
    std::shuffle(queued.begin(), queued.end(), random_);
    const Decision decision = Decide(queued, reservations, capacity_, history_, now_);

    int free_cores = static_cast<int>(capacity_.cores.size());
    int64_t free_memory = capacity_.memory_bytes;
    std::set<int> taken;
    for (const Reservation& reservation : reservations) {
      free_cores -= static_cast<int>(reservation.cores.size());
      free_memory -= reservation.memory_bytes;
      taken.insert(reservation.cores.begin(), reservation.cores.end());
    }
    const int free_before = free_cores;
    for (const StartAction& start : decision.starts) {
      ASSERT_EQ(queued_.count(start.id), 1u);
      const QueuedJob job = queued_.at(start.id);
      // Whoever would have been earlier and is left behind did not fit at this moment.
      for (const auto& [id, other] : queued_) {
        if (Before(other, job)) {
          ASSERT_FALSE(other.cores <= free_cores && other.memory_bytes <= free_memory)
              << id << " should have started before " << job.id;
        }
      }
      // Passing is allowed only while the first of those is patient.
      const QueuedJob* head = nullptr;
      for (const auto& [id, other] : queued_) {
        if (Before(other, job) && (head == nullptr || Before(other, *head))) {
          head = &other;
        }
      }
      if (head != nullptr) {
        ++backfilled_;
        Head& seen = heads_.try_emplace(head->id, Head{now_, 0}).first->second;
        ASSERT_LT(now_ - seen.since, kHeadPatience) << head->id;
        ASSERT_LE(++seen.passed, kMaxPassedOver) << head->id;
      }
      ASSERT_EQ(start.cores.size(), static_cast<size_t>(job.cores));
      for (const int core : start.cores) {
        ASSERT_TRUE(taken.insert(core).second) << "core " << core << " is given twice";
        ASSERT_THAT(capacity_.cores, ::testing::Contains(core));
      }
      free_cores -= job.cores;
      free_memory -= job.memory_bytes;
      ASSERT_GE(free_cores, 0);
      ASSERT_GE(free_memory, 0);
      if (const auto found = heads_.find(job.id); found != heads_.end()) {
        longest_head_wait_ = std::max(longest_head_wait_, now_ - found->second.since);
      }
      running_[job.id] = {{start.cores, start.memory_bytes}, now_ + absl::Seconds(Draw(1, 90))};
      queued_.erase(start.id);
      ++started_;
    }
    const QueuedJob* head = nullptr;
    for (const auto& [id, job] : queued_) {
      if (head == nullptr || Before(job, *head)) {
        head = &job;
      }
    }
    if (head != nullptr) {
      heads_.try_emplace(head->id, Head{now_, 0});
      held_back_ += decision.starts.empty() && free_before > 0 ? 1 : 0;
    }
    history_ = decision.history;
    EXPECT_LE(history_.entries.size(), queued_.size());
  }

  struct Head {
    absl::Time since;
    int passed = 0;
  };

  std::mt19937 random_;
  Capacity capacity_;
  absl::Time now_ = kStart;
  std::map<std::string, QueuedJob> queued_;
  std::map<std::string, Running> running_;
  std::map<std::string, Head> heads_;  // the simulation's own account of who was head
  HeadHistory history_;
  int next_id_ = 0;
  int steps_ = 0;
  int started_ = 0;
  int backfilled_ = 0;
  int held_back_ = 0;
  absl::Duration longest_head_wait_;
};

TEST(PolicyTest, RulesHoldThroughARandomHistory) {
  constexpr uint32_t kSeed = 20240607;
  Simulation simulation(kSeed);
  for (int i = 0; i < 100'000; ++i) {
    simulation.Step();
    if (::testing::Test::HasFatalFailure()) {
      FAIL() << "at event " << i << " with seed " << kSeed;
    }
  }
  simulation.Drain();
  EXPECT_GT(simulation.started(), 10'000);
  EXPECT_GT(simulation.backfilled(), 100) << "the history never exercised backfill";
  EXPECT_GT(simulation.held_back(), 100) << "the history never exercised a reserved head";
  // No starvation: after its patience a head waits for what runs only, or for more urgent jobs,
  // which wait as long.
  EXPECT_LT(simulation.longest_head_wait(), kHeadPatience + 10 * Simulation::kLongestRun);
}

}  // namespace
}  // namespace normlab::server
