// A million events against the policy: every decision is compared with a plain second
// implementation of the rules, and what the rules promise is measured on its own.
#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/scheduler/policy.h"
#include "server/scheduler/shares.h"

namespace normlab::server {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1'700'000'000);
constexpr uint32_t kSeed = 20240607;

// The rules' numbers once more: these tests must fail when somebody changes one of them unawares.
constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr int kPasses = 20;
constexpr absl::Duration kAging = absl::Minutes(10);
constexpr double kAdvanceSeconds = 60;
// Of the simulated jobs.
constexpr int kLowestPriority = -2;
constexpr int kHighestPriority = 2;
constexpr int kLongestRunSeconds = 270;

struct Head {
  absl::Time since;
  int passed = 0;
};

// The policy as its page tells it, without a thought for speed.
std::vector<std::string> PlainDecision(std::vector<QueuedJob> queued,
                                       const std::vector<Reservation>& running,
                                       const Capacity& capacity,
                                       absl::Time now,
                                       const Sharing& sharing,
                                       std::map<std::string, Head>& heads) {
  int free_cores = static_cast<int>(capacity.cores.size());
  int64_t free_memory = capacity.memory_bytes;
  std::map<std::string, std::pair<int, int>> held;  // cores, jobs
  for (const Reservation& reservation : running) {
    free_cores -= static_cast<int>(reservation.cores.size());
    free_memory -= reservation.memory_bytes;
    held[reservation.owner].first += static_cast<int>(reservation.cores.size());
    held[reservation.owner].second += 1;
  }
  const auto share = [&](const std::string& owner) {
    const auto usage = sharing.usage.find(owner);
    const auto weight = sharing.weights.find(owner);
    return ((usage == sharing.usage.end() ? 0 : usage->second) +
            held[owner].first * kAdvanceSeconds) /
           (weight == sharing.weights.end() ? 1 : weight->second);
  };
  const auto priority = [&](const QueuedJob& job) {
    return job.priority + static_cast<int64_t>((now - job.create_time) / kAging);
  };
  std::vector<std::string> starts;
  std::string head;
  while (!queued.empty()) {
    size_t best = 0;
    for (size_t i = 1; i < queued.size(); ++i) {
      const auto key = [&](const QueuedJob& job) {
        return std::make_tuple(-priority(job), share(job.owner), job.create_time, job.id);
      };
      if (key(queued[i]) < key(queued[best])) {
        best = i;
      }
    }
    const QueuedJob job = queued[best];
    queued.erase(queued.begin() + static_cast<std::ptrdiff_t>(best));
    if (!head.empty() && (now - heads[head].since >= kPatience || heads[head].passed >= kPasses)) {
      break;
    }
    const auto& [cores, jobs] = held[job.owner];
    if ((sharing.owner_max_running > 0 && jobs >= sharing.owner_max_running) ||
        (sharing.owner_max_cores > 0 && cores + job.cores > sharing.owner_max_cores)) {
      continue;
    }
    if (job.cores <= free_cores && job.memory_bytes <= free_memory) {
      free_cores -= job.cores;
      free_memory -= job.memory_bytes;
      held[job.owner].first += job.cores;
      held[job.owner].second += 1;
      starts.push_back(job.id);
      heads.erase(job.id);
      if (!head.empty()) {
        ++heads[head].passed;
      }
    } else if (head.empty()) {
      head = job.id;
      heads.try_emplace(head, Head{now});
    }
  }
  return starts;
}

class Simulation {
 public:
  explicit Simulation(Sharing sharing) : sharing_(std::move(sharing)) {
    capacity_.cores = {0, 1, 2, 3, 5, 6, 7};
    capacity_.memory_bytes = 1000;
  }

  void Step() {
    Advance(absl::Milliseconds(Draw(0, 12000)));
    const int kind = Draw(0, 99);
    // Submissions outpace what can be served for a while, then pause: queues grow and drain.
    const bool rush = (steps_++ / 300) % 2 == 0;
    if (kind < (rush ? 45 : 8)) {
      Submit();
    } else if (kind < 88) {
      if (!running_.empty()) {
        End(Draw(0, static_cast<int>(running_.size()) - 1));
      }
    } else if (kind < 92 && !queued_.empty()) {
      queued_.erase(queued_.begin() + Draw(0, static_cast<int>(queued_.size()) - 1));  // cancelled
    } else if (kind < 94 && !queued_.empty()) {
      const int which = Draw(0, static_cast<int>(queued_.size()) - 1);
      paused_.push_back(queued_[which]);
      queued_.erase(queued_.begin() + which);
    } else if (kind < 96 && !running_.empty()) {
      const int which = Draw(0, static_cast<int>(running_.size()) - 1);
      paused_.push_back(running_[which].job);
      End(which);
    } else if (!paused_.empty()) {
      const int which = Draw(0, static_cast<int>(paused_.size()) - 1);
      queued_.push_back(paused_[which]);
      paused_.erase(paused_.begin() + which);
    }
    Schedule();
  }

  void Drain() {
    queued_.insert(queued_.end(), paused_.begin(), paused_.end());
    for (int i = 0; i < 100'000 && !(queued_.empty() && running_.empty()); ++i) {
      Advance(absl::Seconds(1));
      Schedule();
    }
    EXPECT_TRUE(queued_.empty());
  }

  int started() const { return started_; }
  int aged() const { return aged_; }
  int backfilled() const { return backfilled_; }
  int held_for_head() const { return held_for_head_; }
  int held_by_quota() const { return held_by_quota_; }
  absl::Duration longest_head_wait() const { return longest_head_wait_; }

 private:
  struct Running {
    QueuedJob job;
    Reservation reservation;
    absl::Time end;
  };

  int Draw(int from, int to) {
    return from + static_cast<int>(random_() % static_cast<uint32_t>(to - from + 1));
  }

  absl::Duration Monotonic() const { return now_ - kStart; }

  void Submit() {
    static constexpr std::array<const char*, 6> kOwners = {"ann", "ann", "ann",
                                                           "bob", "cyd", "dee"};
    QueuedJob job;
    job.id = absl::StrCat("job", next_id_++);
    job.owner = kOwners[static_cast<size_t>(Draw(0, 5))];
    job.priority = Draw(0, 9) == 0 ? Draw(kLowestPriority, kHighestPriority) : 0;
    job.create_time = now_;
    // Larger than a quota a job could never start.
    const int widest = sharing_.owner_max_cores > 0 ? sharing_.owner_max_cores : 7;
    job.cores = Draw(0, 4) == 0 ? Draw(1, widest) : Draw(1, 2);
    job.memory_bytes = Draw(0, 9) == 0 ? Draw(1, 1000) : Draw(1, 200);
    queued_.push_back(job);
  }

  void End(int which) {
    const Running& running = running_[which];
    ledger_.Release(running.job.owner, running.job.cores, Monotonic());
    running_.erase(running_.begin() + which);
  }

  void Advance(absl::Duration by) {
    now_ += by;
    for (int i = static_cast<int>(running_.size()) - 1; i >= 0; --i) {
      if (running_[i].end <= now_) {
        End(i);
      }
    }
  }

  void Schedule() {
    std::vector<Reservation> reservations;
    for (const Running& running : running_) {
      reservations.push_back(running.reservation);
    }
    sharing_.usage = ledger_.Usage(Monotonic());
    std::shuffle(queued_.begin(), queued_.end(), random_);
    const Decision decision = Decide(queued_, reservations, capacity_, history_, now_, sharing_);
    history_ = decision.history;
    for (auto it = heads_.begin(); it != heads_.end();) {
      const bool waits = std::any_of(queued_.begin(), queued_.end(),
                                     [&](const QueuedJob& job) { return job.id == it->first; });
      it = waits ? std::next(it) : heads_.erase(it);
    }
    const std::map<std::string, Head> heads_before = heads_;
    const std::vector<std::string> expected =
        PlainDecision(queued_, reservations, capacity_, now_, sharing_, heads_);
    std::vector<std::string> starts;
    for (const StartAction& start : decision.starts) {
      starts.push_back(start.id);
    }
    ASSERT_EQ(starts, expected);
    ASSERT_EQ(history_.entries.size(), heads_.size());
    for (const StartAction& start : decision.starts) {
      Start(start, heads_before);
    }
    CheckWhatIsHeld();
    CheckNothingIsIdle();
  }

  void Start(const StartAction& start, const std::map<std::string, Head>& heads_before) {
    const auto found = std::find_if(queued_.begin(), queued_.end(),
                                    [&](const QueuedJob& job) { return job.id == start.id; });
    ASSERT_NE(found, queued_.end());
    const QueuedJob job = *found;
    queued_.erase(found);
    ASSERT_EQ(start.cores.size(), static_cast<size_t>(job.cores));
    if (const auto head = heads_before.find(job.id); head != heads_before.end()) {
      longest_head_wait_ = std::max(longest_head_wait_, now_ - head->second.since);
    } else {
      backfilled_ += heads_before.empty() ? 0 : 1;
    }
    ledger_.Hold(job.owner, job.cores, Monotonic());
    running_.push_back({job,
                        {start.cores, start.memory_bytes, job.owner},
                        now_ + absl::Seconds(Draw(1, kLongestRunSeconds))});
    ++started_;
    aged_ += now_ - job.create_time >= kAging ? 1 : 0;
  }

  // Cores, memory and quotas are never exceeded.
  void CheckWhatIsHeld() {
    std::set<int> taken;
    int64_t memory = 0;
    std::map<std::string, std::pair<int, int>> held;
    for (const Running& running : running_) {
      for (const int core : running.reservation.cores) {
        ASSERT_TRUE(taken.insert(core).second) << "core " << core << " is given twice";
        ASSERT_THAT(capacity_.cores, ::testing::Contains(core));
      }
      memory += running.reservation.memory_bytes;
      held[running.job.owner].first += running.job.cores;
      held[running.job.owner].second += 1;
    }
    ASSERT_LE(memory, capacity_.memory_bytes);
    for (const auto& [owner, amount] : held) {
      ASSERT_TRUE(sharing_.owner_max_cores == 0 || amount.first <= sharing_.owner_max_cores);
      ASSERT_TRUE(sharing_.owner_max_running == 0 || amount.second <= sharing_.owner_max_running);
    }
  }

  // Whatever fits and may run does, unless the cores are kept for a head that has waited too long.
  void CheckNothingIsIdle() {
    int free_cores = static_cast<int>(capacity_.cores.size());
    int64_t free_memory = capacity_.memory_bytes;
    std::map<std::string, std::pair<int, int>> held;
    for (const Running& running : running_) {
      free_cores -= running.job.cores;
      free_memory -= running.job.memory_bytes;
      held[running.job.owner].first += running.job.cores;
      held[running.job.owner].second += 1;
    }
    bool idle = false;
    for (const QueuedJob& job : queued_) {
      const bool by_quota =
          (sharing_.owner_max_cores > 0 &&
           held[job.owner].first + job.cores > sharing_.owner_max_cores) ||
          (sharing_.owner_max_running > 0 && held[job.owner].second >= sharing_.owner_max_running);
      const bool fits = job.cores <= free_cores && job.memory_bytes <= free_memory;
      held_by_quota_ += fits && by_quota ? 1 : 0;
      idle = idle || (fits && !by_quota);
    }
    if (idle) {
      ++held_for_head_;
      const bool someone_is_impatient =
          std::any_of(heads_.begin(), heads_.end(), [this](const auto& head) {
            return now_ - head.second.since >= kPatience || head.second.passed >= kPasses;
          });
      ASSERT_TRUE(someone_is_impatient) << "a job that fits does not start";
    }
  }

  std::mt19937 random_{kSeed};
  Capacity capacity_;
  Sharing sharing_;
  ShareLedger ledger_;
  absl::Time now_ = kStart;
  std::vector<QueuedJob> queued_;
  std::vector<QueuedJob> paused_;
  std::vector<Running> running_;
  HeadHistory history_;
  std::map<std::string, Head> heads_;  // the simulation's own account
  int next_id_ = 0;
  int steps_ = 0;
  int started_ = 0;
  int aged_ = 0;
  int backfilled_ = 0;
  int held_for_head_ = 0;
  int held_by_quota_ = 0;
  absl::Duration longest_head_wait_;
};

// No starvation. Once ageing has lifted a head over whatever may still be submitted (the spread of
// priorities and one period), and its patience is over, only jobs that are before it start before
// it, and those that run end; the load of the simulation has a handful of them.
const absl::Duration kLongestHeadWait = kPatience +
                                        (kHighestPriority - kLowestPriority + 1) * kAging +
                                        10 * absl::Seconds(kLongestRunSeconds);

TEST(PolicySimulationTest, RulesHoldThroughAMillionEvents) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(NDEBUG)
  constexpr int kEvents = 30'000;  // an event is a hundred times slower there
#else
  constexpr int kEvents = 500'000;
#endif
  Sharing without_quotas;
  without_quotas.weights = {{"ann", 2}, {"dee", 0.5}};
  Sharing with_quotas = without_quotas;
  with_quotas.owner_max_cores = 5;
  with_quotas.owner_max_running = 3;
  for (const Sharing& sharing : {without_quotas, with_quotas}) {
    Simulation simulation(sharing);
    for (int i = 0; i < kEvents; ++i) {
      simulation.Step();
      if (::testing::Test::HasFatalFailure()) {
        FAIL() << "at event " << i << " with seed " << kSeed;
      }
    }
    simulation.Drain();
    EXPECT_GT(simulation.started(), kEvents / 10);
    EXPECT_GT(simulation.backfilled(), kEvents / 1000) << "backfill was never exercised";
    EXPECT_GT(simulation.aged(), kEvents / 1000) << "no wait was ever long enough to count";
    EXPECT_GT(simulation.held_for_head(), kEvents / 1000) << "no head was ever reserved for";
    EXPECT_LT(simulation.longest_head_wait(), kLongestHeadWait);
    if (sharing.owner_max_cores > 0) {
      EXPECT_GT(simulation.held_by_quota(), kEvents / 1000) << "no quota ever held anything back";
    }
  }
}

// Owners with always more to do than can run get cores in proportion to their weights.
TEST(PolicySimulationTest, SharesFollowTheWeights) {
  const Capacity capacity = {{0, 1, 2, 3, 4, 5, 6, 7}, 1'000'000};
  Sharing sharing;
  sharing.weights = {{"ann", 1}, {"bob", 2}, {"cyd", 4}};
  std::mt19937 random(kSeed);
  std::vector<QueuedJob> queued;
  for (int i = 0; i < 1500; ++i) {
    for (const auto& [owner, weight] : sharing.weights) {
      QueuedJob job;
      job.id = absl::StrCat(owner, i);
      job.owner = owner;
      job.create_time = kStart;  // of equal age, so that only the share decides
      // The owners' jobs differ in size, which must not help anybody.
      job.cores = owner == "ann" ? 1 + static_cast<int>(random() % 3) : 1;
      job.memory_bytes = 1;
      queued.push_back(job);
    }
  }
  struct Running {
    QueuedJob job;
    Reservation reservation;
    absl::Time end;
  };
  std::vector<Running> running;
  std::map<std::string, double> used;
  ShareLedger ledger;
  HeadHistory history;
  absl::Time now = kStart;
  constexpr absl::Duration kObserved = absl::Hours(3);
  while (now < kStart + kObserved) {
    std::vector<Reservation> reservations;
    for (const Running& one : running) {
      reservations.push_back(one.reservation);
    }
    sharing.usage = ledger.Usage(now - kStart);
    const Decision decision = Decide(queued, reservations, capacity, history, now, sharing);
    history = decision.history;
    for (const StartAction& start : decision.starts) {
      const auto found = std::find_if(queued.begin(), queued.end(),
                                      [&](const QueuedJob& job) { return job.id == start.id; });
      const absl::Duration length = absl::Seconds(20 + random() % 120);
      ledger.Hold(found->owner, found->cores, now - kStart);
      used[found->owner] += found->cores * absl::ToDoubleSeconds(length);
      running.push_back({*found, {start.cores, 1, found->owner}, now + length});
      queued.erase(found);
    }
    const auto next =
        std::min_element(running.begin(), running.end(),
                         [](const Running& a, const Running& b) { return a.end < b.end; });
    now = next->end;
    ledger.Release(next->job.owner, next->job.cores, now - kStart);
    running.erase(next);
  }
  for (const auto& [owner, weight] : sharing.weights) {
    ASSERT_TRUE(std::any_of(queued.begin(), queued.end(),
                            [&, name = owner](const QueuedJob& job) { return job.owner == name; }))
        << owner << " had nothing left to do";
  }
  const double total = used["ann"] + used["bob"] + used["cyd"];
  // A job is some minutes of core time, three hours of eight cores are 86,400 core-seconds.
  constexpr double kTolerance = 0.02;
  EXPECT_NEAR(used["ann"] / total, 1.0 / 7, kTolerance);
  EXPECT_NEAR(used["bob"] / total, 2.0 / 7, kTolerance);
  EXPECT_NEAR(used["cyd"] / total, 4.0 / 7, kTolerance);
}

}  // namespace
}  // namespace normlab::server
