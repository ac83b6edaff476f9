#include "server/domain/transitions.h"

#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/domain/errors.h"
#include "server/domain/proto_time.h"
#include "server/domain/states.h"

namespace normlab::server {
namespace {

using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

v1::Failure Failure(v1::FailureReason::Kind reason) {
  v1::Failure failure;
  failure.set_reason(reason);
  failure.set_message("because");
  return failure;
}

v1::Outcome OutcomeOf(v1::Job::State state) {
  v1::Outcome outcome;
  outcome.set_state(state);
  outcome.mutable_result()->set_steps(42);
  if (state == v1::Job::FAILED) {
    *outcome.mutable_failure() = Failure(v1::FailureReason::DATA_ERROR);
  }
  return outcome;
}

// A job in a state, reached by legal transitions only.
v1::Job JobIn(v1::Job::State state, int max_retries = 0) {
  v1::Job job;
  job.set_name("jobs/x");
  job.mutable_spec()->set_max_retries(max_retries);
  std::vector<v1::Segment> records;
  InitializeQueued(job, kNow, records);
  if (state == v1::Job::QUEUED) {
    return job;
  }
  EXPECT_TRUE(BeginAttempt(job, {1, 3}, 1 << 20, 0, kNow, records).ok());
  if (state == v1::Job::STARTING) {
    return job;
  }
  EXPECT_TRUE(MarkRunning(job, 1, kNow, records).ok());
  if (state == v1::Job::RUNNING) {
    return job;
  }
  EXPECT_TRUE(FinishAttempt(job, 1, OutcomeOf(state), kNow, records).ok());
  EXPECT_EQ(job.state(), state);
  return job;
}

constexpr v1::Job::State kStates[] = {v1::Job::QUEUED,    v1::Job::STARTING, v1::Job::RUNNING,
                                      v1::Job::SUCCEEDED, v1::Job::DIVERGED, v1::Job::FAILED,
                                      v1::Job::CANCELLED};
// Of the table below: refused.
constexpr v1::Job::State kRefused = v1::Job::STATE_UNSPECIFIED;

struct Verb {
  const char* name;
  std::function<absl::Status(v1::Job&, std::vector<v1::Segment>&)> apply;
  // The state afterwards, in the order of kStates.
  v1::Job::State expected[7];
};

const std::vector<Verb>& Verbs() {
  constexpr auto N = kRefused;
  static const std::vector<Verb> verbs = {
      {"begin",
       [](auto& j, auto& r) { return BeginAttempt(j, {0}, 1, 0, kNow, r); },
       {v1::Job::STARTING, N, N, N, N, N, N}},
      {"running",
       [](auto& j, auto& r) { return MarkRunning(j, 1, kNow, r); },
       {N, v1::Job::RUNNING, v1::Job::RUNNING, N, N, N, N}},
      {"running under another attempt",
       [](auto& j, auto& r) { return MarkRunning(j, 2, kNow, r); },
       {N, N, N, N, N, N, N}},
      {"cancel",
       [](auto& j, auto& r) { return RequestCancel(j, kNow, r); },
       {v1::Job::CANCELLED, v1::Job::STARTING, v1::Job::RUNNING, N, N, N, v1::Job::CANCELLED}},
      {"succeed",
       [](auto& j, auto& r) { return FinishAttempt(j, 1, OutcomeOf(v1::Job::SUCCEEDED), kNow, r); },
       {N, v1::Job::SUCCEEDED, v1::Job::SUCCEEDED, N, N, N, N}},
      {"diverge",
       [](auto& j, auto& r) { return FinishAttempt(j, 1, OutcomeOf(v1::Job::DIVERGED), kNow, r); },
       {N, v1::Job::DIVERGED, v1::Job::DIVERGED, N, N, N, N}},
      {"fail",
       [](auto& j, auto& r) { return FinishAttempt(j, 1, OutcomeOf(v1::Job::FAILED), kNow, r); },
       {N, v1::Job::FAILED, v1::Job::FAILED, N, N, N, N}},
      {"stop",
       [](auto& j, auto& r) { return FinishAttempt(j, 1, OutcomeOf(v1::Job::CANCELLED), kNow, r); },
       {N, v1::Job::CANCELLED, v1::Job::CANCELLED, N, N, N, N}},
      {"outcome that is none",
       [](auto& j, auto& r) { return FinishAttempt(j, 1, OutcomeOf(v1::Job::RUNNING), kNow, r); },
       {N, N, N, N, N, N, N}},
      {"crash",
       [](auto& j, auto& r) {
         return LoseAttempt(j, 1, Failure(v1::FailureReason::WORKER_CRASHED), kNow, r);
       },
       {N, v1::Job::FAILED, v1::Job::FAILED, N, N, N, N}},
      {"server lost",
       [](auto& j, auto& r) {
         return LoseAttempt(j, 1, Failure(v1::FailureReason::SERVER_LOST), kNow, r);
       },
       {N, v1::Job::QUEUED, v1::Job::QUEUED, N, N, N, N}},
      {"fail queued",
       [](auto& j, auto& r) {
         return FailQueued(j, Failure(v1::FailureReason::DATA_ERROR), kNow, r);
       },
       {v1::Job::FAILED, N, N, N, N, N, N}},
  };
  return verbs;
}

TEST(TransitionsTest, EveryStateAndVerb) {
  for (const Verb& verb : Verbs()) {
    for (int i = 0; i < 7; ++i) {
      SCOPED_TRACE(std::string(verb.name) + " in " + StateName(kStates[i]));
      v1::Job job = JobIn(kStates[i]);
      const std::string before = job.SerializeAsString();
      std::vector<v1::Segment> records;
      const absl::Status status = verb.apply(job, records);
      if (verb.expected[i] == kRefused) {
        EXPECT_TRUE(status.code() == absl::StatusCode::kFailedPrecondition ||
                    status.code() == absl::StatusCode::kInvalidArgument)
            << status;
        EXPECT_FALSE(ReasonOf(status).empty());
        EXPECT_EQ(job.SerializeAsString(), before);
        EXPECT_TRUE(records.empty());
        continue;
      }
      ASSERT_TRUE(status.ok()) << status;
      EXPECT_EQ(job.state(), verb.expected[i]);
      if (job.state() != kStates[i]) {
        // Exactly one state change, and it is the last record.
        ASSERT_FALSE(records.empty());
        EXPECT_EQ(records.back().state().state(), job.state());
        int changes = 0;
        for (const v1::Segment& record : records) {
          changes += record.has_state();
        }
        EXPECT_EQ(changes, 1);
      }
      EXPECT_EQ(job.has_end_time(), IsTerminal(job.state()));
      EXPECT_EQ(job.has_failure(), job.state() == v1::Job::FAILED);
      EXPECT_EQ(job.has_result(),
                job.state() == v1::Job::SUCCEEDED || job.state() == v1::Job::DIVERGED);
      if (IsActive(kStates[i]) && !IsActive(job.state())) {
        EXPECT_EQ(job.attempts(0).state(), v1::Attempt::ENDED);
        EXPECT_TRUE(job.attempts(0).has_end_time());
        EXPECT_FALSE(IsCurrentAttempt(job, 1));
      }
    }
  }
}

TEST(TransitionsTest, RefusalNamesStateAndWhatIsAllowed) {
  v1::Job job = JobIn(v1::Job::RUNNING);
  std::vector<v1::Segment> records;
  const absl::Status status = BeginAttempt(job, {0}, 1, 0, kNow, records);
  EXPECT_THAT(std::string(status.message()), HasSubstr("RUNNING"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("QUEUED"));
}

TEST(TransitionsTest, CancelIsIdempotentAndKeepsTheFirstTime) {
  v1::Job job = JobIn(v1::Job::RUNNING);
  std::vector<v1::Segment> records;
  ASSERT_TRUE(RequestCancel(job, kNow, records).ok());
  ASSERT_TRUE(RequestCancel(job, kNow + absl::Seconds(9), records).ok());
  EXPECT_EQ(records.size(), 1u);
  EXPECT_EQ(FromTimestamp(job.cancel_request_time()), kNow);
}

TEST(TransitionsTest, CrashAfterCancelRequestIsACancellation) {
  for (const auto reason : {v1::FailureReason::WORKER_CRASHED, v1::FailureReason::SERVER_LOST}) {
    v1::Job job = JobIn(v1::Job::RUNNING, /*max_retries=*/3);
    std::vector<v1::Segment> records;
    ASSERT_TRUE(RequestCancel(job, kNow, records).ok());
    ASSERT_TRUE(LoseAttempt(job, 1, Failure(reason), kNow, records).ok());
    EXPECT_EQ(job.state(), v1::Job::CANCELLED);
    EXPECT_FALSE(job.has_failure());
  }
}

TEST(TransitionsTest, RetriesAreUsedUpByOwnFailuresOnly) {
  v1::Job job = JobIn(v1::Job::QUEUED, /*max_retries=*/2);
  std::vector<v1::Segment> records;
  const v1::FailureReason::Kind reasons[] = {
      v1::FailureReason::WORKER_CRASHED, v1::FailureReason::SERVER_LOST,
      v1::FailureReason::OUT_OF_MEMORY, v1::FailureReason::SERVER_LOST,
      v1::FailureReason::WORKER_CRASHED};
  for (int i = 0; i < 5; ++i) {
    SCOPED_TRACE(i);
    ASSERT_TRUE(BeginAttempt(job, {0}, 1, 0, kNow, records).ok());
    EXPECT_EQ(job.attempts(i).number(), i + 1);
    ASSERT_TRUE(LoseAttempt(job, i + 1, Failure(reasons[i]), kNow, records).ok());
    EXPECT_EQ(job.state(), i < 4 ? v1::Job::QUEUED : v1::Job::FAILED);
  }
  EXPECT_EQ(job.failure().reason(), v1::FailureReason::WORKER_CRASHED);
  EXPECT_EQ(RetriesUsed(job), 3);
}

TEST(TransitionsTest, ServerLossesAreForgivenTenTimesInARowAndACheckpointStartsAnew) {
  v1::Job job = JobIn(v1::Job::QUEUED);
  std::vector<v1::Segment> records;
  int attempt = 0;
  const auto lose = [&](int64_t checkpoint_step) {
    EXPECT_TRUE(BeginAttempt(job, {0}, 1, FindLastCheckpoint(job).step, kNow, records).ok());
    ++attempt;
    if (checkpoint_step > 0) {
      job.mutable_attempts()->rbegin()->set_checkpoint_step(checkpoint_step);
    }
    EXPECT_TRUE(
        LoseAttempt(job, attempt, Failure(v1::FailureReason::SERVER_LOST), kNow, records).ok());
  };
  for (int i = 0; i < kMaxLossesInARow; ++i) {
    lose(0);
    ASSERT_EQ(job.state(), v1::Job::QUEUED) << i;
  }
  lose(500);
  ASSERT_EQ(job.state(), v1::Job::QUEUED);
  EXPECT_EQ(FindLastCheckpoint(job).step, 500);
  EXPECT_EQ(job.progress().step(), 500);
  for (int i = 0; i < kMaxLossesInARow; ++i) {
    lose(0);
    ASSERT_EQ(job.state(), v1::Job::QUEUED) << i;
  }
  lose(0);
  EXPECT_EQ(job.state(), v1::Job::FAILED);
  EXPECT_EQ(job.failure().reason(), v1::FailureReason::SERVER_LOST);
}

TEST(TransitionsTest, StartTimeIsThatOfTheFirstAttemptThatRan) {
  v1::Job job = JobIn(v1::Job::RUNNING, 1);
  std::vector<v1::Segment> records;
  ASSERT_TRUE(LoseAttempt(job, 1, Failure(v1::FailureReason::WORKER_CRASHED), kNow, records).ok());
  const absl::Time later = kNow + absl::Seconds(30);
  ASSERT_TRUE(BeginAttempt(job, {0}, 1, 0, later, records).ok());
  ASSERT_TRUE(MarkRunning(job, 2, later, records).ok());
  EXPECT_EQ(FromTimestamp(job.start_time()), kNow);
  EXPECT_FALSE(IsCurrentAttempt(job, 1));
  EXPECT_TRUE(IsCurrentAttempt(job, 2));
}

}  // namespace
}  // namespace normlab::server
