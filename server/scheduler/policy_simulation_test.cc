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

// Monotonic, and in between for whoever waits: the wall clock only tells who is older.
const absl::Duration kStart = absl::Hours(100);
const absl::Time kEpoch = absl::FromUnixSeconds(1'700'000'000);
constexpr uint32_t kSeed = 20240607;

// The rules' numbers once more: these tests must fail when somebody changes one of them unawares.
constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr int kPasses = 20;
constexpr int kOvertakers = 20;
constexpr absl::Duration kAging = absl::Minutes(10);
constexpr double kAdvanceSeconds = 60;
// Of the simulated jobs.
constexpr int kLowestPriority = -2;
constexpr int kHighestPriority = 2;
constexpr int kLongestRunSeconds = 270;

struct Head {
  absl::Duration since;
  int passed = 0;
  int overtaken = 0;  // by jobs of higher priority, although cores were kept for it
};

// What the plain policy remembers from one decision to the next.
struct Memory {
  std::map<std::string, Head> heads;
  std::map<std::string, Head> held;  // by quotas
  std::string reserved;
};

// The policy as its page tells it, without a thought for speed.
class PlainDecision {
 public:
  PlainDecision(std::vector<QueuedJob> queued,
                const std::vector<Reservation>& running,
                const Capacity& capacity,
                absl::Duration now,
                const Sharing& sharing,
                Memory& memory)
      : queued_(std::move(queued)), now_(now), sharing_(sharing), memory_(memory) {
    free_cores_ = static_cast<int>(capacity.cores.size());
    free_memory_ = capacity.memory_bytes;
    for (const Reservation& reservation : running) {
      Hold(reservation.owner, static_cast<int>(reservation.cores.size()), reservation.memory_bytes);
    }
    ForgetThoseThatLeft(memory.heads);
    ForgetThoseThatLeft(memory.held);
    if (memory.heads.count(memory.reserved) == 0) {
      memory.reserved.clear();
    }
    before_ = memory.heads;
    impatient_ = ImpatientOnes(memory.heads);
    for (const std::string& id : ImpatientOnes(memory.held)) {
      if (sharing.owner_max_cores == 0 || Waiting(id).cores <= sharing.owner_max_cores) {
        kept_.try_emplace(Waiting(id).owner, Waiting(id));
      }
    }
    const auto reserved = std::find(impatient_.begin(), impatient_.end(), memory.reserved);
    if (reserved != impatient_.end()) {
      std::rotate(impatient_.begin(), reserved, reserved + 1);
    }
  }

  std::vector<std::string> Starts() {
    std::vector<std::string> starts;
    while (!queued_.empty()) {
      const QueuedJob job = TakeNext();
      if (!head_.empty() && (free_cores_ == 0 || IsImpatient(memory_.heads[head_]))) {
        break;
      }
      if (HeldBack(job)) {
        NoteHeldBack(job);
        continue;
      }
      if (job.cores <= free_cores_ && job.memory_bytes <= free_memory_) {
        starts.push_back(job.id);
        Start(job);
        continue;
      }
      if (head_.empty()) {
        head_ = job.id;
        memory_.heads.try_emplace(head_, Head{now_});
      }
      if (memory_.heads.count(job.id) > 0 && IsImpatient(memory_.heads[job.id])) {
        memory_.reserved = job.id;
        break;
      }
    }
    return starts;
  }

  bool HeldBack(const QueuedJob& job) const {
    const auto kept = kept_.find(job.owner);
    return kept != kept_.end() && kept->second.id != job.id && job.priority <= kept->second.priority
               ? Exceeds(job.owner, job.cores + kept->second.cores, 2)
               : Exceeds(job.owner, job.cores, 1);
  }

 private:
  bool IsImpatient(const Head& head) const {
    return now_ - head.since >= kPatience || head.passed >= kPasses;
  }
  const QueuedJob& Waiting(const std::string& id) const {
    return *std::find_if(queued_.begin(), queued_.end(),
                         [&](const QueuedJob& job) { return job.id == id; });
  }
  bool Waits(const std::string& id) const {
    return std::any_of(queued_.begin(), queued_.end(),
                       [&](const QueuedJob& job) { return job.id == id; });
  }
  void ForgetThoseThatLeft(std::map<std::string, Head>& heads) const {
    for (auto it = heads.begin(); it != heads.end();) {
      it = Waits(it->first) ? std::next(it) : heads.erase(it);
    }
  }
  // The one that was a head first comes first.
  std::vector<std::string> ImpatientOnes(const std::map<std::string, Head>& heads) const {
    std::vector<std::string> ids;
    for (const auto& [id, head] : heads) {
      if (IsImpatient(head)) {
        ids.push_back(id);
      }
    }
    std::stable_sort(ids.begin(), ids.end(), [&](const std::string& a, const std::string& b) {
      return heads.at(a).since < heads.at(b).since;
    });
    return ids;
  }

  bool Exceeds(const std::string& owner, int cores, int jobs) const {
    const auto held = held_.find(owner);
    const auto [cores_held, jobs_held] = held == held_.end() ? std::pair<int, int>() : held->second;
    return (sharing_.owner_max_running > 0 && jobs_held + jobs > sharing_.owner_max_running) ||
           (sharing_.owner_max_cores > 0 && cores_held + cores > sharing_.owner_max_cores);
  }
  void Hold(const std::string& owner, int cores, int64_t memory) {
    free_cores_ -= cores;
    free_memory_ -= memory;
    held_[owner].first += cores;
    held_[owner].second += 1;
  }

  auto Key(const QueuedJob& job) const {
    const auto usage = sharing_.usage.find(job.owner);
    const auto weight = sharing_.weights.find(job.owner);
    const auto held = held_.find(job.owner);
    const double share = ((usage == sharing_.usage.end() ? 0 : usage->second) +
                          (held == held_.end() ? 0 : held->second.first) * kAdvanceSeconds) /
                         (weight == sharing_.weights.end() ? 1 : weight->second);
    const int64_t aged = static_cast<int64_t>((job.waited + now_ - job.queued_since) / kAging);
    return std::make_tuple(-(job.priority + aged), share, job.create_time, job.id);
  }

  QueuedJob TakeNext() {
    while (next_reserved_.empty() && !impatient_.empty()) {
      const std::string id = impatient_.front();
      impatient_.erase(impatient_.begin());
      if (Waits(id) && !HeldBack(Waiting(id))) {
        next_reserved_ = id;
      }
    }
    size_t best = queued_.size();
    for (size_t i = 0; i < queued_.size(); ++i) {
      const bool may_go_first = next_reserved_.empty() || queued_[i].id == next_reserved_ ||
                                (before_.at(next_reserved_).overtaken < kOvertakers &&
                                 queued_[i].priority > Waiting(next_reserved_).priority &&
                                 Key(queued_[i]) < Key(Waiting(next_reserved_)));
      if (may_go_first && (best == queued_.size() || Key(queued_[i]) < Key(queued_[best]))) {
        best = i;
      }
    }
    const QueuedJob job = queued_[best];
    queued_.erase(queued_.begin() + static_cast<std::ptrdiff_t>(best));
    if (job.id == next_reserved_) {
      next_reserved_.clear();
    }
    return job;
  }

  void Start(const QueuedJob& job) {
    Hold(job.owner, job.cores, job.memory_bytes);
    if (!next_reserved_.empty()) {
      ++memory_.heads[next_reserved_].overtaken;
    }
    memory_.heads.erase(job.id);
    memory_.held.erase(job.id);
    if (memory_.reserved == job.id) {
      memory_.reserved.clear();
    }
    if (const auto kept = kept_.find(job.owner); kept != kept_.end() && kept->second.id == job.id) {
      kept_.erase(kept);
    }
    if (!head_.empty()) {
      ++memory_.heads[head_].passed;
    }
    if (const auto held = held_jobs_.find(job.owner); held != held_jobs_.end()) {
      ++memory_.held[held->second.id].passed;
      KeepIfImpatient(held->second);
    }
  }

  void NoteHeldBack(const QueuedJob& job) {
    const bool never = sharing_.owner_max_cores > 0 && job.cores > sharing_.owner_max_cores;
    if (held_jobs_.count(job.owner) == 0 && Exceeds(job.owner, job.cores, 1) && !never) {
      memory_.held.try_emplace(job.id, Head{now_});
      held_jobs_[job.owner] = job;
      KeepIfImpatient(job);
    }
  }
  void KeepIfImpatient(const QueuedJob& job) {
    if (IsImpatient(memory_.held[job.id])) {
      kept_.try_emplace(job.owner, job);
    }
  }

  std::vector<QueuedJob> queued_;
  const absl::Duration now_;
  const Sharing& sharing_;
  Memory& memory_;
  int free_cores_;
  int64_t free_memory_;
  std::map<std::string, std::pair<int, int>> held_;  // cores and jobs, by owner
  std::map<std::string, QueuedJob> kept_;            // what quotas are kept for, by owner
  std::map<std::string, QueuedJob> held_jobs_;  // the first that its quota holds back, by owner
  std::map<std::string, Head> before_;          // the heads at the beginning of the decision
  std::vector<std::string> impatient_;
  std::string next_reserved_;
  std::string head_;
};

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
    if (kind < (rush ? 52 : 8)) {
      Submit();
    } else if (kind < 88) {
      if (!running_.empty()) {
        End(Draw(0, static_cast<int>(running_.size()) - 1));
      }
    } else if (kind < 92 && !queued_.empty()) {
      queued_.erase(queued_.begin() + Draw(0, static_cast<int>(queued_.size()) - 1));  // cancelled
    } else if (kind < 94 && !queued_.empty()) {
      const int which = Draw(0, static_cast<int>(queued_.size()) - 1);
      queued_[which].waited += now_ - queued_[which].queued_since;
      paused_.push_back(queued_[which]);
      queued_.erase(queued_.begin() + which);
    } else if (kind < 96 && !running_.empty()) {
      const int which = Draw(0, static_cast<int>(running_.size()) - 1);
      paused_.push_back(running_[which].job);
      End(which);
    } else if (!paused_.empty()) {
      const int which = Draw(0, static_cast<int>(paused_.size()) - 1);
      paused_[which].queued_since = now_;
      queued_.push_back(paused_[which]);
      paused_.erase(paused_.begin() + which);
    }
    Schedule();
  }

  void Drain() {
    for (QueuedJob& job : paused_) {
      job.queued_since = now_;
      queued_.push_back(job);
    }
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
  int reservations() const { return reservations_; }
  absl::Duration longest_head_wait() const { return longest_head_wait_; }

 private:
  struct Running {
    QueuedJob job;
    Reservation reservation;
    absl::Duration end;
  };

  int Draw(int from, int to) {
    return from + static_cast<int>(random_() % static_cast<uint32_t>(to - from + 1));
  }

  void Submit() {
    static constexpr std::array<const char*, 6> kOwners = {"ann", "ann", "ann",
                                                           "bob", "cyd", "dee"};
    QueuedJob job;
    job.id = absl::StrCat("job", next_id_++);
    job.owner = kOwners[static_cast<size_t>(Draw(0, 5))];
    job.priority = Draw(0, 9) == 0 ? Draw(kLowestPriority, kHighestPriority) : 0;
    job.create_time = kEpoch + now_;
    job.queued_since = now_;
    // Larger than a quota a job could never start.
    const int widest = sharing_.owner_max_cores > 0 ? sharing_.owner_max_cores : 7;
    job.cores = Draw(0, 4) == 0 ? Draw(1, widest) : Draw(1, 2);
    job.memory_bytes = Draw(0, 9) == 0 ? Draw(1, 1000) : Draw(1, 200);
    queued_.push_back(job);
  }

  void End(int which) {
    const Running& running = running_[which];
    ledger_.Release(running.job.owner, running.job.cores, now_);
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
    sharing_.usage = ledger_.Usage(now_);
    std::shuffle(queued_.begin(), queued_.end(), random_);
    const Decision decision = Decide(queued_, reservations, capacity_, history_, now_, sharing_);
    history_ = decision.history;
    PlainDecision plain(queued_, reservations, capacity_, now_, sharing_, memory_);
    const Memory before = memory_;
    CheckReservation(decision, plain);
    const std::vector<std::string> expected = plain.Starts();
    std::vector<std::string> starts;
    for (const StartAction& start : decision.starts) {
      starts.push_back(start.id);
    }
    ASSERT_EQ(starts, expected);
    ASSERT_EQ(history_.entries.size(), memory_.heads.size());
    ASSERT_EQ(history_.held.size(), memory_.held.size());
    ASSERT_EQ(history_.reserved, memory_.reserved);
    for (const StartAction& start : decision.starts) {
      Start(start, before.heads);
    }
    CheckWhatIsHeld();
    CheckNothingIsIdle();
  }

  // Whoever comes, nothing but jobs of a higher priority of their own goes before the one that cores
  // are kept for.
  void CheckReservation(const Decision& decision, const PlainDecision& plain) {
    const auto find = [this](const std::string& id) {
      return std::find_if(queued_.begin(), queued_.end(),
                          [&](const QueuedJob& job) { return job.id == id; });
    };
    const auto reserved = find(memory_.reserved);
    if (reserved == queued_.end() || plain.HeldBack(*reserved)) {
      return;
    }
    ++reservations_;
    for (const StartAction& start : decision.starts) {
      if (start.id == reserved->id) {
        return;
      }
      ASSERT_GT(find(start.id)->priority, reserved->priority)
          << start.id << " takes the cores of " << reserved->id;
      if (find(start.id)->owner == reserved->owner) {
        return;  // which may have used up their quota
      }
    }
    ASSERT_TRUE(decision.history.reserved == reserved->id ||
                find(decision.history.reserved)->priority > reserved->priority)
        << decision.history.reserved << " is kept cores for instead of " << reserved->id;
  }

  void Start(const StartAction& start, const std::map<std::string, Head>& heads_before) {
    const auto found = std::find_if(queued_.begin(), queued_.end(),
                                    [&](const QueuedJob& job) { return job.id == start.id; });
    ASSERT_NE(found, queued_.end());
    QueuedJob job = *found;
    queued_.erase(found);
    job.waited += now_ - job.queued_since;
    ASSERT_EQ(start.cores.size(), static_cast<size_t>(job.cores));
    if (const auto head = heads_before.find(job.id); head != heads_before.end()) {
      longest_head_wait_ = std::max(longest_head_wait_, now_ - head->second.since);
    } else {
      backfilled_ += heads_before.empty() ? 0 : 1;
    }
    ledger_.Hold(job.owner, job.cores, now_);
    running_.push_back({job,
                        {start.cores, start.memory_bytes, job.owner},
                        now_ + absl::Seconds(Draw(1, kLongestRunSeconds))});
    ++started_;
    aged_ += job.waited >= kAging ? 1 : 0;
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
      // Or because room in the quota is kept for another job of its owner's.
      const bool by_quota =
          OwnerWaitsForRoom(job.owner) ||
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
          std::any_of(memory_.heads.begin(), memory_.heads.end(),
                      [this](const auto& head) { return IsImpatient(head.second); });
      ASSERT_TRUE(someone_is_impatient) << "a job that fits does not start";
    }
  }

  bool IsImpatient(const Head& head) const {
    return now_ - head.since >= kPatience || head.passed >= kPasses;
  }

  bool OwnerWaitsForRoom(const std::string& owner) const {
    return std::any_of(queued_.begin(), queued_.end(), [&](const QueuedJob& job) {
      const auto held = memory_.held.find(job.id);
      return job.owner == owner && held != memory_.held.end() && IsImpatient(held->second);
    });
  }

  std::mt19937 random_{kSeed};
  Capacity capacity_;
  Sharing sharing_;
  ShareLedger ledger_;
  absl::Duration now_ = kStart;
  std::vector<QueuedJob> queued_;
  std::vector<QueuedJob> paused_;
  std::vector<Running> running_;
  HeadHistory history_;
  Memory memory_;  // the simulation's own account
  int next_id_ = 0;
  int steps_ = 0;
  int started_ = 0;
  int aged_ = 0;
  int backfilled_ = 0;
  int held_for_head_ = 0;
  int held_by_quota_ = 0;
  int reservations_ = 0;
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
    EXPECT_GT(simulation.reservations(), kEvents / 1000) << "no reservation was ever tried";
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
      job.create_time = kEpoch;  // of equal age, so that only the share decides
      job.queued_since = kStart;
      // The owners' jobs differ in size, which must not help anybody.
      job.cores = owner == "ann" ? 1 + static_cast<int>(random() % 3) : 1;
      job.memory_bytes = 1;
      queued.push_back(job);
    }
  }
  struct Running {
    QueuedJob job;
    Reservation reservation;
    absl::Duration end;
  };
  std::vector<Running> running;
  std::map<std::string, double> used;
  ShareLedger ledger;
  HeadHistory history;
  absl::Duration now = kStart;
  constexpr absl::Duration kObserved = absl::Hours(3);
  while (now < kStart + kObserved) {
    std::vector<Reservation> reservations;
    for (const Running& one : running) {
      reservations.push_back(one.reservation);
    }
    sharing.usage = ledger.Usage(now);
    const Decision decision = Decide(queued, reservations, capacity, history, now, sharing);
    history = decision.history;
    for (const StartAction& start : decision.starts) {
      const auto found = std::find_if(queued.begin(), queued.end(),
                                      [&](const QueuedJob& job) { return job.id == start.id; });
      const absl::Duration length = absl::Seconds(20 + random() % 120);
      ledger.Hold(found->owner, found->cores, now);
      used[found->owner] += found->cores * absl::ToDoubleSeconds(length);
      running.push_back({*found, {start.cores, 1, found->owner}, now + length});
      queued.erase(found);
    }
    const auto next =
        std::min_element(running.begin(), running.end(),
                         [](const Running& a, const Running& b) { return a.end < b.end; });
    now = next->end;
    ledger.Release(next->job.owner, next->job.cores, now);
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

// Somebody who has used much has a wide job, the first in line; then newcomers, who have used nothing,
// keep coming.
TEST(PolicySimulationTest, NewcomersDoNotTakeWhatIsReserved) {
  const Capacity capacity = {{0, 1, 2, 3}, 1000};
  QueuedJob wide;
  wide.id = "wide";
  wide.owner = "ann";
  wide.cores = 4;
  wide.create_time = kEpoch;
  wide.queued_since = kStart;
  Sharing sharing;
  sharing.usage = {{"ann", 1e6}};
  struct Running {
    Reservation reservation;
    absl::Duration end;
  };
  constexpr absl::Duration kRun = absl::Seconds(30);
  std::vector<Running> running = {{{{0}, 1, "bob"}, kStart + kRun}};
  HeadHistory history;
  absl::Duration now = kStart;
  for (int second = 0; true; ++second) {
    now = kStart + absl::Seconds(second);
    ASSERT_LE(now, kStart + kPatience + kRun) << "the wide job starves";
    std::erase_if(running, [now](const Running& one) { return one.end <= now; });
    std::vector<Reservation> reservations;
    for (const Running& one : running) {
      reservations.push_back(one.reservation);
    }
    // One of one core and one of three, each of an owner of its own.
    std::vector<QueuedJob> queued = {wide};
    for (const int cores : second == 0 ? std::vector<int>() : std::vector<int>{1, 3}) {
      QueuedJob& job = queued.emplace_back();
      job.id = job.owner = absl::StrCat("new", second, "of", cores);
      job.cores = cores;
      job.create_time = kEpoch + absl::Seconds(second);
      job.queued_since = now;
    }
    const Decision decision = Decide(queued, reservations, capacity, history, now, sharing);
    history = decision.history;
    for (const StartAction& start : decision.starts) {
      if (start.id == "wide") {
        EXPECT_GE(now, kStart + kPatience) << "nobody ever went before it: nothing was tried";
        return;
      }
      running.push_back({{start.cores, 0, start.id}, now + kRun});
    }
  }
}

}  // namespace
}  // namespace normlab::server
