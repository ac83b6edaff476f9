#include "server/domain/transitions.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/domain/errors.h"
#include "server/domain/proto_time.h"
#include "server/domain/states.h"
#include "server/domain/take_back.h"

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
  if (state == v1::Job::PAUSED) {
    EXPECT_TRUE(RequestPause(job, kNow, records).ok());
  }
  EXPECT_TRUE(FinishAttempt(job, 1, OutcomeOf(state), kNow, records).ok());
  EXPECT_EQ(job.state(), state);
  return job;
}

// Everything that decides what a verb does: the state, and what was asked for that has not happened.
struct Condition {
  const char* name;  // as Describe has it
  v1::Job::State state;
  bool cancelling = false;
  bool pausing = false;
};
constexpr Condition kConditions[] = {
    {"QUEUED", v1::Job::QUEUED},
    {"STARTING", v1::Job::STARTING},
    {"STARTING, cancelling", v1::Job::STARTING, true},
    {"STARTING, pausing", v1::Job::STARTING, false, true},
    {"RUNNING", v1::Job::RUNNING},
    {"RUNNING, cancelling", v1::Job::RUNNING, true},
    {"RUNNING, pausing", v1::Job::RUNNING, false, true},
    {"PAUSED", v1::Job::PAUSED},
    {"SUCCEEDED", v1::Job::SUCCEEDED},
    {"DIVERGED", v1::Job::DIVERGED},
    {"FAILED", v1::Job::FAILED},
    {"CANCELLED", v1::Job::CANCELLED},
};

v1::Job JobIn(const Condition& condition) {
  v1::Job job = JobIn(condition.state);
  std::vector<v1::Segment> records;
  if (condition.cancelling) {
    EXPECT_TRUE(RequestCancel(job, kNow, records).ok());
  }
  if (condition.pausing) {
    EXPECT_TRUE(RequestPause(job, kNow, records).ok());
  }
  return job;
}

std::string Describe(const v1::Job& job) {
  std::string text = StateName(job.state());
  if (job.has_cancel_request_time() && !IsTerminal(job.state())) {
    text += ", cancelling";
  }
  if (job.has_pause_request_time()) {
    text += ", pausing";
  }
  return text;
}

struct Verb {
  const char* name;
  std::function<absl::Status(v1::Job&, std::vector<v1::Segment>&)> apply;
  // What the job is afterwards, by what it was before; refused where nothing is named.
  std::map<std::string, std::string> expected;
};

// The same for a live attempt whatever was asked for; or by what was.
std::map<std::string, std::string> Active(const std::string& plain,
                                          const std::string& cancelling,
                                          const std::string& pausing) {
  return {{"STARTING", plain}, {"STARTING, cancelling", cancelling}, {"STARTING, pausing", pausing},
          {"RUNNING", plain},  {"RUNNING, cancelling", cancelling},  {"RUNNING, pausing", pausing}};
}

const std::vector<Verb>& Verbs() {
  static const std::vector<Verb> verbs = {
      {"cancel",
       [](auto& j, auto& r) { return RequestCancel(j, kNow, r); },
       {{"QUEUED", "CANCELLED"},
        {"STARTING", "STARTING, cancelling"},
        {"STARTING, cancelling", "STARTING, cancelling"},
        {"STARTING, pausing", "STARTING, cancelling"},
        {"RUNNING", "RUNNING, cancelling"},
        {"RUNNING, cancelling", "RUNNING, cancelling"},
        {"RUNNING, pausing", "RUNNING, cancelling"},
        {"PAUSED", "CANCELLED"},
        {"CANCELLED", "CANCELLED"}}},
      {"pause",
       [](auto& j, auto& r) { return RequestPause(j, kNow, r); },
       {{"QUEUED", "PAUSED"},
        {"STARTING", "STARTING, pausing"},
        {"STARTING, pausing", "STARTING, pausing"},
        {"RUNNING", "RUNNING, pausing"},
        {"RUNNING, pausing", "RUNNING, pausing"},
        {"PAUSED", "PAUSED"}}},
      {"resume",
       [](auto& j, auto& r) { return RequestResume(j, kNow, r); },
       {{"STARTING, pausing", "STARTING"}, {"RUNNING, pausing", "RUNNING"}, {"PAUSED", "QUEUED"}}},
      {"delete",
       [](auto& j, auto&) { return CheckDeletable(j, false); },
       {{"PAUSED", "PAUSED"},
        {"SUCCEEDED", "SUCCEEDED"},
        {"DIVERGED", "DIVERGED"},
        {"FAILED", "FAILED"},
        {"CANCELLED", "CANCELLED"}}},
      {"begin",
       [](auto& j, auto& r) { return BeginAttempt(j, {0}, 1, 0, kNow, r); },
       {{"QUEUED", "STARTING"}}},
      {"running", [](auto& j, auto& r) { return MarkRunning(j, 1, kNow, r); },
       Active("RUNNING", "RUNNING, cancelling", "RUNNING, pausing")},
      {"running under another attempt",
       [](auto& j, auto& r) { return MarkRunning(j, 2, kNow, r); },
       {}},
      {"succeed",
       [](auto& j, auto& r) { return FinishAttempt(j, 1, OutcomeOf(v1::Job::SUCCEEDED), kNow, r); },
       Active("SUCCEEDED", "SUCCEEDED", "SUCCEEDED")},
      {"diverge",
       [](auto& j, auto& r) { return FinishAttempt(j, 1, OutcomeOf(v1::Job::DIVERGED), kNow, r); },
       Active("DIVERGED", "DIVERGED", "DIVERGED")},
      {"fail",
       [](auto& j, auto& r) { return FinishAttempt(j, 1, OutcomeOf(v1::Job::FAILED), kNow, r); },
       Active("FAILED", "CANCELLED", "FAILED")},
      {"stop",
       [](auto& j, auto& r) { return FinishAttempt(j, 1, OutcomeOf(v1::Job::CANCELLED), kNow, r); },
       Active("CANCELLED", "CANCELLED", "CANCELLED")},
      {"stop after a checkpoint",
       [](auto& j, auto& r) { return FinishAttempt(j, 1, OutcomeOf(v1::Job::PAUSED), kNow, r); },
       Active("QUEUED", "CANCELLED", "PAUSED")},
      {"stop after a checkpoint for a drain",
       [](auto& j, auto& r) {
         v1::Outcome outcome = OutcomeOf(v1::Job::PAUSED);
         *outcome.mutable_failure() = Failure(v1::FailureReason::SERVER_DRAINED);
         return FinishAttempt(j, 1, outcome, kNow, r);
       },
       Active("QUEUED", "CANCELLED", "PAUSED")},
      {"stop after a checkpoint for a fault, which is no reason",
       [](auto& j, auto& r) {
         v1::Outcome outcome = OutcomeOf(v1::Job::PAUSED);
         *outcome.mutable_failure() = Failure(v1::FailureReason::DATA_ERROR);
         return FinishAttempt(j, 1, outcome, kNow, r);
       },
       {}},
      {"outcome that is none",
       [](auto& j, auto& r) { return FinishAttempt(j, 1, OutcomeOf(v1::Job::RUNNING), kNow, r); },
       {}},
      {"crash",
       [](auto& j, auto& r) {
         return LoseAttempt(j, 1, Failure(v1::FailureReason::WORKER_CRASHED), kNow, r);
       },
       Active("FAILED", "CANCELLED", "FAILED")},
      {"server lost",
       [](auto& j, auto& r) {
         return LoseAttempt(j, 1, Failure(v1::FailureReason::SERVER_LOST), kNow, r);
       },
       Active("QUEUED", "CANCELLED", "PAUSED")},
  };
  return verbs;
}

TEST(TransitionsTest, EveryStateAndVerb) {
  for (const Verb& verb : Verbs()) {
    for (const Condition& condition : kConditions) {
      SCOPED_TRACE(std::string(verb.name) + " while " + condition.name);
      v1::Job job = JobIn(condition);
      ASSERT_EQ(Describe(job), condition.name);
      const v1::Job before = job;
      std::vector<v1::Segment> records;
      const absl::Status status = verb.apply(job, records);
      const auto expected = verb.expected.find(condition.name);
      if (expected == verb.expected.end()) {
        EXPECT_TRUE(status.code() == absl::StatusCode::kFailedPrecondition ||
                    status.code() == absl::StatusCode::kInvalidArgument)
            << status;
        EXPECT_FALSE(ReasonOf(status).empty());
        EXPECT_EQ(job.SerializeAsString(), before.SerializeAsString());
        EXPECT_TRUE(records.empty());
        continue;
      }
      ASSERT_TRUE(status.ok()) << status;
      EXPECT_EQ(Describe(job), expected->second);
      int changes = 0;
      for (const v1::Segment& record : records) {
        changes += record.has_state();
      }
      EXPECT_EQ(changes, job.state() == before.state() ? 0 : 1);
      if (changes == 1) {
        // The state change is the last record.
        EXPECT_EQ(records.back().state().state(), job.state());
      }
      EXPECT_EQ(job.has_end_time(), IsTerminal(job.state()));
      EXPECT_EQ(job.has_failure(), job.state() == v1::Job::FAILED);
      EXPECT_EQ(job.has_result(),
                job.state() == v1::Job::SUCCEEDED || job.state() == v1::Job::DIVERGED);
      if (IsActive(before.state()) && !IsActive(job.state())) {
        EXPECT_EQ(job.attempts(0).state(), v1::Attempt::ENDED);
        EXPECT_TRUE(job.attempts(0).has_end_time());
        EXPECT_FALSE(IsCurrentAttempt(job, 1));
      }
    }
  }
}

// The table for people, made of the same facts: what each verb of the API does to each job.
TEST(TransitionsTest, TheTableInTheDocumentationIsTrue) {
  std::ifstream file(NORMLAB_JOBS_PAGE);
  const std::string page((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  ASSERT_FALSE(page.empty()) << NORMLAB_JOBS_PAGE;
  for (const Condition& condition : kConditions) {
    std::string row = absl::StrCat("| ", condition.name);
    for (const char* name : {"cancel", "pause", "resume", "delete"}) {
      const auto verb = std::find_if(Verbs().begin(), Verbs().end(), [&](const Verb& candidate) {
        return candidate.name == std::string(name);
      });
      v1::Job job = JobIn(condition);
      std::vector<v1::Segment> records;
      const bool allowed = verb->apply(job, records).ok();
      const std::string after = std::string(name) == "delete" ? "gone" : Describe(job);
      absl::StrAppend(&row, " | ",
                      !allowed                  ? "refused"
                      : after == condition.name ? "no change"
                                                : after);
    }
    row += " |";
    EXPECT_THAT(page, HasSubstr(row));
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

TEST(TransitionsTest, TheLastAttemptWithACheckpointCountsWhateverEarlierOnesReached) {
  v1::Job job = JobIn(v1::Job::QUEUED);
  const auto add = [&job](int32_t number, int64_t checkpoint_step) {
    v1::Attempt& attempt = *job.add_attempts();
    attempt.set_number(number);
    attempt.set_checkpoint_step(checkpoint_step);
  };
  EXPECT_EQ(FindLastCheckpoint(job).step, 0);
  add(1, 900);
  add(2, 0);
  EXPECT_EQ(FindLastCheckpoint(job).attempt, 1);
  add(3, 40);  // began anew: the checkpoint at 900 was not there any more
  add(4, 0);
  EXPECT_EQ(FindLastCheckpoint(job).step, 40);
  EXPECT_EQ(FindLastCheckpoint(job).attempt, 3);
}

TEST(TransitionsTest, WaitingIsCountedOverAllStaysInTheQueue) {
  v1::Job job;
  std::vector<v1::Segment> records;
  job.set_waited_seconds(1e9);  // not the submitter's to say
  InitializeQueued(job, kNow, records);
  EXPECT_EQ(job.waited_seconds(), 0);
  EXPECT_EQ(FromTimestamp(job.queue_time()), kNow);
  ASSERT_TRUE(RequestPause(job, kNow + absl::Seconds(7), records).ok());
  EXPECT_EQ(job.waited_seconds(), 7);
  ASSERT_TRUE(RequestResume(job, kNow + absl::Hours(9), records).ok());
  EXPECT_EQ(job.waited_seconds(), 7);
  EXPECT_EQ(FromTimestamp(job.queue_time()), kNow + absl::Hours(9));
  ASSERT_TRUE(BeginAttempt(job, {0}, 1, 0, kNow + absl::Hours(9) + absl::Seconds(4), records).ok());
  EXPECT_EQ(job.waited_seconds(), 11);
  ASSERT_TRUE(
      LoseAttempt(job, 1, Failure(v1::FailureReason::SERVER_LOST), kNow + absl::Hours(10), records)
          .ok());
  // The wall clock may be set back in between.
  ASSERT_TRUE(BeginAttempt(job, {0}, 1, 0, kNow, records).ok());
  EXPECT_EQ(job.waited_seconds(), 11);
}

TEST(TransitionsTest, AnAttemptThatCouldNotBeStartedIsTakenBack) {
  v1::Job job = JobIn(v1::Job::STARTING);
  const int attempts = job.attempts_size();
  const int32_t number = job.attempts().rbegin()->number();
  std::vector<v1::Segment> records;
  EXPECT_FALSE(TakeBackAttempt(job, number + 1, "no room", kNow, records).ok()) << "the fence";
  ASSERT_TRUE(TakeBackAttempt(job, number, "no room", kNow, records).ok());
  EXPECT_EQ(job.state(), v1::Job::QUEUED);
  EXPECT_EQ(job.attempts_size(), attempts - 1);
  EXPECT_EQ(RetriesUsed(job), 0);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].state().failure_reason(), v1::FailureReason::NODE_FAILED);
  EXPECT_THAT(records[0].state().message(), HasSubstr("no room"));
  // However often: it is no loss.
  for (int i = 0; i < 3 * kMaxLossesInARow; ++i) {
    ASSERT_TRUE(BeginAttempt(job, {0}, 1, 0, kNow, records).ok());
    ASSERT_TRUE(
        TakeBackAttempt(job, job.attempts().rbegin()->number(), "no room", kNow, records).ok());
  }
  EXPECT_EQ(job.state(), v1::Job::QUEUED);

  v1::Job running = JobIn(v1::Job::RUNNING);
  EXPECT_FALSE(
      TakeBackAttempt(running, running.attempts().rbegin()->number(), "x", kNow, records).ok());
  for (const bool cancel : {true, false}) {
    v1::Job wished = JobIn(v1::Job::STARTING);
    ASSERT_TRUE(
        (cancel ? RequestCancel(wished, kNow, records) : RequestPause(wished, kNow, records)).ok());
    ASSERT_TRUE(
        TakeBackAttempt(wished, wished.attempts().rbegin()->number(), "x", kNow, records).ok());
    EXPECT_EQ(wished.state(), cancel ? v1::Job::CANCELLED : v1::Job::PAUSED);
  }
}

TEST(TransitionsTest, AFailureThatEndsTheJobIsToldOnce) {
  v1::Job job = JobIn(v1::Job::RUNNING);
  std::vector<v1::Segment> records;
  v1::Failure failure = Failure(v1::FailureReason::WORKER_START_FAILED);
  failure.set_message("it is broken");
  ASSERT_TRUE(LoseAttempt(job, 1, failure, kNow, records).ok());
  ASSERT_EQ(job.state(), v1::Job::FAILED);
  int told = 0;
  for (const v1::Segment& record : records) {
    told += record.ShortDebugString().find("it is broken") != std::string::npos ? 1 : 0;
  }
  EXPECT_EQ(told, 1);
}

TEST(TransitionsTest, ADamagedJobFailsWhateverRetriesItHas) {
  const v1::Failure failure = Failure(v1::FailureReason::DATA_LOSS);
  for (const v1::Job::State state : {v1::Job::QUEUED, v1::Job::RUNNING, v1::Job::PAUSED}) {
    v1::Job job = JobIn(state, 1);
    job.mutable_spec()->set_max_retries(9);
    std::vector<v1::Segment> records;
    ASSERT_TRUE(FailDamaged(job, failure, kNow, records).ok());
    EXPECT_EQ(job.state(), v1::Job::FAILED);
    EXPECT_EQ(job.failure().reason(), v1::FailureReason::DATA_LOSS);
    EXPECT_EQ(CurrentAttempt(job), nullptr);
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(FailDamaged(job, failure, kNow, records).code(),
              absl::StatusCode::kFailedPrecondition);
  }
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

TEST(TransitionsTest, PausingIsNoLossHoweverOften) {
  v1::Job job = JobIn(v1::Job::QUEUED);
  std::vector<v1::Segment> records;
  for (int attempt = 1; attempt <= 3 * kMaxLossesInARow; ++attempt) {
    ASSERT_TRUE(BeginAttempt(job, {0}, 1, 0, kNow, records).ok());
    // Every other pause is taken back too late.
    if (attempt % 2 == 0) {
      ASSERT_TRUE(RequestPause(job, kNow, records).ok());
    }
    ASSERT_TRUE(FinishAttempt(job, attempt, OutcomeOf(v1::Job::PAUSED), kNow, records).ok());
    ASSERT_EQ(job.state(), attempt % 2 == 0 ? v1::Job::PAUSED : v1::Job::QUEUED) << attempt;
    if (job.state() == v1::Job::PAUSED) {
      ASSERT_TRUE(RequestResume(job, kNow, records).ok());
    }
  }
  EXPECT_EQ(RetriesUsed(job), 0);
}

TEST(TransitionsTest, DrainsWithoutProgressEndSomewhere) {
  v1::Job job = JobIn(v1::Job::QUEUED);
  std::vector<v1::Segment> records;
  for (int attempt = 1; attempt <= kMaxLossesInARow + 1; ++attempt) {
    ASSERT_EQ(job.state(), v1::Job::QUEUED) << attempt;
    ASSERT_TRUE(BeginAttempt(job, {0}, 1, 0, kNow, records).ok());
    ASSERT_TRUE(
        LoseAttempt(job, attempt, Failure(v1::FailureReason::SERVER_DRAINED), kNow, records).ok());
  }
  EXPECT_EQ(job.state(), v1::Job::FAILED);
  EXPECT_EQ(job.failure().reason(), v1::FailureReason::SERVER_DRAINED);
}

TEST(TransitionsTest, AnEndedAttemptSaysWhatItUsed) {
  v1::Job job = JobIn(v1::Job::RUNNING);
  std::vector<v1::Segment> records;
  ASSERT_TRUE(
      FinishAttempt(job, 1, OutcomeOf(v1::Job::SUCCEEDED), kNow + absl::Seconds(21), records).ok());
  EXPECT_DOUBLE_EQ(job.attempts(0).core_seconds(), 42);  // two cores
  // A clock that was set back is no reason for a negative amount.
  v1::Job other = JobIn(v1::Job::RUNNING);
  ASSERT_TRUE(
      FinishAttempt(other, 1, OutcomeOf(v1::Job::SUCCEEDED), kNow - absl::Hours(1), records).ok());
  EXPECT_EQ(other.attempts(0).core_seconds(), 0);
}

TEST(TransitionsTest, AResumeNamesTheCheckpointAndTheEndOfAPauseClearsTheWish) {
  v1::Job job = JobIn(v1::Job::RUNNING);
  std::vector<v1::Segment> records;
  ASSERT_TRUE(RequestPause(job, kNow, records).ok());
  EXPECT_EQ(FromTimestamp(job.pause_request_time()), kNow);
  ASSERT_TRUE(RequestPause(job, kNow + absl::Seconds(5), records).ok());
  EXPECT_EQ(FromTimestamp(job.pause_request_time()), kNow);
  job.mutable_attempts(0)->set_checkpoint_step(77);
  ASSERT_TRUE(FinishAttempt(job, 1, OutcomeOf(v1::Job::PAUSED), kNow, records).ok());
  EXPECT_FALSE(job.has_pause_request_time());
  EXPECT_EQ(job.attempts(0).failure().reason(), v1::FailureReason::PAUSED);
  EXPECT_EQ(job.progress().step(), 77);
  ASSERT_TRUE(RequestResume(job, kNow, records).ok());
  EXPECT_THAT(records.back().state().message(), HasSubstr("step 77"));
}

}  // namespace
}  // namespace normlab::server
