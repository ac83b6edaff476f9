#include "server/scheduler/retry.h"

#include <set>
#include <string>

#include "gtest/gtest.h"

#include "server/domain/proto_time.h"

namespace normlab::server {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

v1::Job JobWith(const std::string& name, std::initializer_list<v1::FailureReason::Kind> reasons) {
  v1::Job job;
  job.set_name(name);
  for (const v1::FailureReason::Kind reason : reasons) {
    v1::Attempt& attempt = *job.add_attempts();
    attempt.mutable_failure()->set_reason(reason);
    *attempt.mutable_end_time() = ToTimestamp(kNow);
  }
  return job;
}

TEST(RetryTest, DoublesToAMinuteWithinAQuarter) {
  v1::Job job = JobWith("jobs/a", {});
  EXPECT_EQ(RetryDelay(job), absl::ZeroDuration());
  for (const int seconds : {1, 2, 4, 8, 16, 32, 60, 60, 60}) {
    job.add_attempts()->mutable_failure()->set_reason(v1::FailureReason::WORKER_CRASHED);
    EXPECT_GE(RetryDelay(job), absl::Seconds(0.75 * seconds));
    EXPECT_LE(RetryDelay(job), absl::Seconds(1.25 * seconds));
    EXPECT_EQ(RetryDelay(job), RetryDelay(job));
  }
}

TEST(RetryTest, JobsThatFailedTogetherDoNotComeBackTogether) {
  std::set<absl::Duration> delays;
  for (int i = 0; i < 100; ++i) {
    delays.insert(
        RetryDelay(JobWith("jobs/" + std::to_string(i), {v1::FailureReason::WORKER_CRASHED})));
  }
  EXPECT_GT(delays.size(), 95u);
}

TEST(RetryTest, OnlyOwnFailuresInARowCount) {
  using Reason = v1::FailureReason;
  EXPECT_EQ(RetryDelay(JobWith("jobs/a", {Reason::WORKER_CRASHED, Reason::SERVER_LOST})),
            absl::ZeroDuration());
  EXPECT_EQ(RetryDelay(
                JobWith("jobs/a", {Reason::WORKER_CRASHED, Reason::PAUSED, Reason::OUT_OF_MEMORY})),
            RetryDelay(JobWith("jobs/a", {Reason::DATA_ERROR})));
}

TEST(RetryTest, WhatIsLeftIsCountedFromTheEndOfTheAttempt) {
  const v1::Job job = JobWith("jobs/a", {v1::FailureReason::WORKER_CRASHED});
  const absl::Duration whole = RetryDelay(job);
  EXPECT_EQ(RemainingRetryDelay(job, kNow), whole);
  EXPECT_EQ(RemainingRetryDelay(job, kNow + whole / 2), whole - whole / 2);
  EXPECT_EQ(RemainingRetryDelay(job, kNow + absl::Hours(1)), absl::ZeroDuration());
  // The clock was set back by an hour.
  EXPECT_EQ(RemainingRetryDelay(job, kNow - absl::Hours(1)), whole);
}

}  // namespace
}  // namespace normlab::server
