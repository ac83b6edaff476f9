#include <atomic>
#include <future>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/domain/errors.h"
#include "server/domain/proto_time.h"
#include "server/domain/transitions.h"
#include "server/store/schema.h"
#include "server/store/testing/jobs_fixture.h"

namespace normlab::server {
namespace {

using testing::CreateAndWait;
using testing::StartAttempt;
using testing::TestId;
using testing::TestJob;
using StoreJobsTest = testing::StoreWithJobs;

TEST_F(StoreJobsTest, CreatedJobIsReadBackWhole) {
  v1::Job job = TestJob(TestId(1));
  (*job.mutable_labels())["study"] = "explosion";
  job.mutable_progress()->set_total_steps(938);
  const auto created = CreateAndWait(*store_, job, "r1", "hash");
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_TRUE(created->created);
  EXPECT_EQ(created->job.state(), v1::Job::QUEUED);
  EXPECT_EQ(created->job.last_sequence(), 1);
  Open();
  const auto read = store_->GetJob(TestId(1));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->ShortDebugString(), created->job.ShortDebugString());
  EXPECT_EQ(read->progress().total_steps(), 938);
  EXPECT_EQ(FromTimestamp(read->create_time()), clock_.Now());
  const v1::RecordBatch records = testing::AllRecords(*store_, TestId(1));
  ASSERT_EQ(records.segments_size(), 1);
  EXPECT_EQ(records.segments(0).state().state(), v1::Job::QUEUED);
}

TEST_F(StoreJobsTest, RequestIdMakesARetryHarmless) {
  ASSERT_TRUE(CreateAndWait(*store_, TestJob(TestId(1)), "r", "hash-a").ok());
  Open();
  const auto again = CreateAndWait(*store_, TestJob(TestId(2)), "r", "hash-a");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_FALSE(again->created);
  EXPECT_EQ(again->job.name(), "jobs/" + TestId(1));
  EXPECT_EQ(store_->GetJob(TestId(2)).status().code(), absl::StatusCode::kNotFound);

  const auto other = CreateAndWait(*store_, TestJob(TestId(3)), "r", "hash-b");
  EXPECT_EQ(other.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReasonOf(other.status()), reason::kRequestIdReused);
  EXPECT_THAT(std::string(other.status().message()), ::testing::HasSubstr(TestId(1)));
  // Another owner's request_id is another one.
  EXPECT_TRUE(CreateAndWait(*store_, TestJob(TestId(4), "other"), "r", "hash-b")->created);
  // And without one every call makes a job; an id is used once.
  EXPECT_TRUE(CreateAndWait(*store_, TestJob(TestId(5)))->created);
  EXPECT_EQ(ReasonOf(CreateAndWait(*store_, TestJob(TestId(5))).status()), reason::kJobIdTaken);
}

TEST_F(StoreJobsTest, ConcurrentRetriesMakeOneJob) {
  std::atomic<int> made = 0;
  std::atomic<int> answered = 0;
  std::vector<std::future<void>> calls;
  for (int i = 0; i < 16; ++i) {
    calls.push_back(std::async(std::launch::async, [&, i] {
      const auto result = CreateAndWait(*store_, TestJob(TestId(i)), "same", "hash");
      ASSERT_TRUE(result.ok());
      made += result->created;
      ++answered;
    }));
  }
  calls.clear();
  EXPECT_EQ(answered, 16);
  EXPECT_EQ(made, 1);
  EXPECT_EQ(List({}, 100).size(), 1u);
}

TEST_F(StoreJobsTest, CountsByStateAreExactAcrossARestart) {
  for (int i = 0; i < 5; ++i) {
    Create(i, "ann", {});
  }
  StartAttempt(*store_, TestId(0));
  ASSERT_TRUE(store_
                  ->UpdateJobAndWait(TestId(1),
                                     [&](v1::Job& job, auto& records) {
                                       return RequestCancel(job, clock_.Now(), records);
                                     })
                  .ok());
  // A refused change counts nothing.
  EXPECT_FALSE(store_
                   ->UpdateJobAndWait(TestId(1),
                                      [&](v1::Job& job, auto& records) {
                                        return BeginAttempt(job, {0}, 1, 0, clock_.Now(), records);
                                      })
                   .ok());
  const std::vector<std::pair<v1::Job::State, int64_t>> expected = {
      {v1::Job::QUEUED, 3}, {v1::Job::RUNNING, 1}, {v1::Job::CANCELLED, 1}};
  EXPECT_EQ(store_->CountByState(), expected);
  Open();
  EXPECT_EQ(store_->CountByState(), expected);
  const auto active = store_->ActiveJobs();
  ASSERT_TRUE(active.ok());
  ASSERT_EQ(active->size(), 1u);
  EXPECT_EQ(active->front().name(), "jobs/" + TestId(0));
  EXPECT_EQ(active->front().attempts_size(), 1);
  EXPECT_EQ(store_->QueuedJobs()->size(), 3u);
}

// What the next server's scheduler starts from, without any job's row.
TEST_F(StoreJobsTest, TheQueueIsReadFromItsIndex) {
  v1::Job large = TestJob(TestId(1), "ann");
  large.set_priority(-7);
  large.mutable_estimate()->set_cores(3);
  large.mutable_estimate()->set_memory_bytes(123);
  large.mutable_spec()->set_display_name(std::string(20'000, 'x'));
  const absl::Time created = clock_.Now();
  ASSERT_TRUE(CreateAndWait(*store_, large).ok());
  clock_.Advance(absl::Seconds(1));
  ASSERT_TRUE(CreateAndWait(*store_, TestJob(TestId(2), "ann")).ok());
  clock_.Advance(absl::Seconds(1));
  ASSERT_TRUE(CreateAndWait(*store_, TestJob(TestId(3), "bob")).ok());
  // Comes back after a fault of its own, and has waited before.
  StartAttempt(*store_, TestId(2));
  clock_.Advance(absl::Seconds(40));
  const absl::Time failed = clock_.Now();
  ASSERT_TRUE(store_
                  ->UpdateJobAndWait(TestId(2),
                                     [&](v1::Job& job, auto&) {
                                       job.set_state(v1::Job::QUEUED);
                                       job.set_priority(5);
                                       job.set_waited_seconds(2.5);
                                       *job.mutable_queue_time() = ToTimestamp(failed);
                                       v1::Attempt& attempt = *job.mutable_attempts(0);
                                       *attempt.mutable_end_time() = ToTimestamp(failed);
                                       attempt.mutable_failure()->set_reason(
                                           v1::FailureReason::WORKER_CRASHED);
                                       return absl::OkStatus();
                                     })
                  .ok());
  Open();
  const auto queue = store_->QueuedJobs();
  ASSERT_TRUE(queue.ok()) << queue.status();
  ASSERT_EQ(queue->size(), 3u);
  const QueueEntry& first = (*queue)[0];
  EXPECT_EQ(first.id, TestId(1));
  EXPECT_EQ(first.owner, "ann");
  EXPECT_EQ(first.priority, -7);
  EXPECT_EQ(first.cores, 3);
  EXPECT_EQ(first.memory_bytes, 123);
  EXPECT_EQ(first.create_time, created);
  EXPECT_EQ(first.last_failure, absl::InfinitePast());
  EXPECT_GT(first.bytes, 20'000);
  const QueueEntry& second = (*queue)[1];
  EXPECT_EQ(second.id, TestId(2));
  EXPECT_EQ(second.priority, 5);
  EXPECT_EQ(second.queue_time, failed);
  EXPECT_EQ(second.waited, absl::Milliseconds(2500));
  EXPECT_EQ(second.last_failure, failed);
  EXPECT_EQ(*store_->QueuedBytes("ann"), first.bytes + second.bytes);
  EXPECT_EQ(*store_->QueuedBytes("bob"), (*queue)[2].bytes);
  EXPECT_EQ(*store_->QueuedBytes("eve"), 0);
  // From the index alone: the rows, which may be large, are not read.
  {
    Connection connection(folder_.path() + "/normlab.db", Connection::Mode::kReadOnly, 1000);
    for (const char* sql : {"SELECT id, owner, create_time_us, priority, cores, memory_bytes, "
                            "queue_time_us, waited_us, last_failure_us, spec_bytes FROM jobs "
                            "INDEXED BY jobs_in_queue WHERE state = 1",
                            "SELECT total(spec_bytes) FROM jobs INDEXED BY jobs_in_queue "
                            "WHERE state = 1 AND owner = 'ann'",
                            "SELECT total(spec_bytes) FROM jobs INDEXED BY jobs_paused "
                            "WHERE state = 8 AND owner = 'ann'"}) {
      Query plan(connection, absl::StrCat("EXPLAIN QUERY PLAN ", sql).c_str());
      ASSERT_TRUE(plan.Step());
      EXPECT_THAT(plan.Text(3), ::testing::HasSubstr("COVERING INDEX jobs_")) << sql;
    }
  }
  // Who leaves the queue leaves it here too.
  StartAttempt(*store_, TestId(1));
  EXPECT_EQ(*store_->QueuedBytes("ann"), second.bytes);
  // Who is paused does not: the owner keeps it.
  ASSERT_TRUE(store_
                  ->UpdateJobAndWait(TestId(2),
                                     [this](v1::Job& job, auto& records) {
                                       return RequestPause(job, clock_.Now(), records);
                                     })
                  .ok());
  EXPECT_EQ(store_->GetJob(TestId(2))->state(), v1::Job::PAUSED);
  EXPECT_EQ(store_->QueuedJobs()->size(), 1U);
  EXPECT_NEAR(static_cast<double>(*store_->QueuedBytes("ann")), static_cast<double>(second.bytes),
              100);
}

TEST_F(StoreJobsTest, SecretsOfAReportAreNotUndoneByALaterUpdate) {
  Create(1, "ann", {});
  const AttemptKey attempt = StartAttempt(*store_, TestId(1));
  ASSERT_TRUE(testing::AppendAndWait(*store_, attempt, testing::Reporter().Log("x").Take()).ok());
  AttemptSecrets identity;
  identity.process_identity = "boot/ns/1/2";
  ASSERT_TRUE(store_
                  ->UpdateJobAndWait(
                      TestId(1), [](v1::Job&, auto&) { return absl::OkStatus(); }, identity)
                  .ok());
  Open();
  const auto secrets = store_->GetAttemptSecrets(attempt);
  ASSERT_TRUE(secrets.ok()) << secrets.status();
  EXPECT_EQ(secrets->process_identity, "boot/ns/1/2");
  EXPECT_EQ(secrets->secret_sha256, std::string(32, '\x07'));
  EXPECT_EQ(secrets->last_report, 1);
  EXPECT_EQ(store_->GetAttemptSecrets({TestId(1), 2}).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(StoreJobsTest, NothingFollowsTheTerminalRecord) {
  Create(1, "ann", {});
  const auto cancel = [&](v1::Job& job, std::vector<v1::Segment>& records) {
    return RequestCancel(job, clock_.Now(), records);
  };
  ASSERT_TRUE(store_->UpdateJobAndWait(TestId(1), cancel).ok());
  ASSERT_TRUE(store_->UpdateJobAndWait(TestId(1), cancel).ok());
  const auto late = store_->UpdateJobAndWait(TestId(1), [](v1::Job&, auto& records) {
    records.push_back(LogRecord(v1::LogLine::INFO, "late", 0, absl::UnixEpoch()));
    return absl::OkStatus();
  });
  EXPECT_EQ(late.status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(store_->GetJob(TestId(1))->last_sequence(), 2);
}

}  // namespace
}  // namespace normlab::server
