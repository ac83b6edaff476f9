#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/domain/errors.h"
#include "server/domain/transitions.h"
#include "server/store/connection.h"
#include "server/store/deletion.h"
#include "server/store/job_rows.h"
#include "server/store/schema.h"
#include "server/store/store.h"
#include "server/store/testing/harness.h"

namespace normlab::server {
namespace {

using testing::AllPoints;
using testing::AppendAndWait;
using testing::CreateAndWait;
using testing::Reporter;
using testing::StartAttempt;
using testing::TempFolder;
using testing::TestId;
using testing::TestJob;

class StoreDeletionTest : public ::testing::Test {
 protected:
  StoreDeletionTest() { Open(absl::InfiniteDuration()); }

  void Open(absl::Duration retention) {
    store_.reset();
    auto store = Store::Open({.data_dir = folder_.path(),
                              .work_dir = work_.path(),
                              .retention = retention,
                              .clock = &clock_});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  // A job that has ended, with `points` points, a label, a request id and files.
  void MakeEnded(int number, int points) {
    const std::string id = TestId(number);
    v1::Job job = TestJob(id, "ann");
    (*job.mutable_labels())["kind"] = "test";
    ASSERT_TRUE(CreateAndWait(*store_, job, absl::StrCat("request-", number), "hash").ok());
    const AttemptKey attempt = StartAttempt(*store_, id);
    Reporter reporter;
    reporter.Define(1, "loss");
    std::vector<int64_t> steps(points);
    std::iota(steps.begin(), steps.end(), 0);
    ASSERT_TRUE(AppendAndWait(*store_, attempt,
                              reporter.Block({1}, steps, std::vector<double>(points, 0.25))
                                  .Outcome(v1::Job::SUCCEEDED, points)
                                  .Take())
                    .ok());
    const std::string files = absl::StrCat(work_.path(), "/jobs/", id, "/attempt-1");
    std::filesystem::create_directories(files);
    std::ofstream(files + "/weights") << "numbers";
  }

  // Rows of all tables that belong to no job.
  int64_t Orphans() {
    std::unique_ptr<Connection> connection = OpenForReading(folder_.path() + "/normlab.db");
    int64_t orphans = 0;
    for (const char* table : {"progress", "labels", "attempts", "series", "attempt_series",
                              "records", "chunk_summaries", "artifacts"}) {
      Query query(*connection, absl::StrCat("SELECT count(*) FROM ", table,
                                            " WHERE job_key NOT IN (SELECT key FROM jobs)"));
      query.Step();
      orphans += query.Int(0);
    }
    return orphans;
  }

  bool HasFiles(int number) {
    return std::filesystem::exists(absl::StrCat(work_.path(), "/jobs/", TestId(number)));
  }

  TempFolder folder_;
  TempFolder work_;
  common::FakeClock clock_;
  std::unique_ptr<Store> store_;
};

TEST_F(StoreDeletionTest, ADeletedJobIsGoneWithItsRecordsAndFilesAndOthersStay) {
  MakeEnded(1, 100);
  MakeEnded(2, 100);
  ASSERT_TRUE(store_->DeleteJobAndWait(TestId(1)).ok());
  EXPECT_EQ(store_->GetJob(TestId(1)).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->ReadRecords(TestId(1), 0, 1).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->ListJobs({}, 10, "")->jobs.size(), 1u);
  JobFilter label;
  label.labels = {{"kind", "test"}};
  EXPECT_EQ(store_->ListJobs(label, 10, "")->jobs.size(), 1u);
  EXPECT_EQ(store_->CountByState(),
            (std::vector<std::pair<v1::Job::State, int64_t>>{{v1::Job::SUCCEEDED, 1}}));
  EXPECT_EQ(store_->CountJobs("ann", v1::Job::SUCCEEDED), 1);
  ASSERT_TRUE(store_->Maintain().ok());
  EXPECT_EQ(Orphans(), 0);
  EXPECT_FALSE(HasFiles(1));
  EXPECT_TRUE(HasFiles(2));
  EXPECT_EQ(AllPoints(*store_, TestId(2)).size(), 100u);
  EXPECT_EQ(store_->DeleteJobAndWait(TestId(1)).code(), absl::StatusCode::kNotFound);
  Open(absl::InfiniteDuration());
  EXPECT_EQ(store_->CountByState(),
            (std::vector<std::pair<v1::Job::State, int64_t>>{{v1::Job::SUCCEEDED, 1}}));
}

TEST_F(StoreDeletionTest, OnlyEndedAndPausedJobsCanBeDeleted) {
  ASSERT_TRUE(CreateAndWait(*store_, TestJob(TestId(1))).ok());
  const absl::Status queued = store_->DeleteJobAndWait(TestId(1));
  EXPECT_EQ(queued.code(), absl::StatusCode::kFailedPrecondition) << queued;
  EXPECT_THAT(std::string(queued.message()), ::testing::HasSubstr("QUEUED"));
  StartAttempt(*store_, TestId(1));
  EXPECT_EQ(store_->DeleteJobAndWait(TestId(1)).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(CreateAndWait(*store_, TestJob(TestId(2))).ok());
  ASSERT_TRUE(store_
                  ->UpdateJobAndWait(TestId(2),
                                     [](v1::Job& job, auto&) {
                                       job.set_state(v1::Job::PAUSED);
                                       return absl::OkStatus();
                                     })
                  .ok());
  EXPECT_TRUE(store_->DeleteJobAndWait(TestId(2)).ok());
  EXPECT_EQ(store_->GetJob(TestId(1))->state(), v1::Job::RUNNING);
}

TEST_F(StoreDeletionTest, ARetryOfADeletedJobsRequestMakesNoNewOne) {
  MakeEnded(1, 3);
  ASSERT_TRUE(store_->DeleteJobAndWait(TestId(1)).ok());
  ASSERT_TRUE(store_->Maintain().ok());
  const auto retry = CreateAndWait(*store_, TestJob(TestId(2), "ann"), "request-1", "hash");
  EXPECT_EQ(retry.status().code(), absl::StatusCode::kNotFound) << retry.status();
  EXPECT_EQ(ReasonOf(retry.status()), reason::kJobDeleted);
  EXPECT_EQ(store_->FindRequest("ann", "request-1", "hash").status().code(),
            absl::StatusCode::kNotFound);
}

// A large job's rows go in slices of a commit each; a crash in between only delays the rest.
TEST_F(StoreDeletionTest, RemovalGoesInSlicesAndResumesAfterACrash) {
  MakeEnded(1, 300'000);
  const std::string path = folder_.path() + "/normlab.db";
  store_.reset();
  int64_t job_key = 0;
  {
    auto connection = OpenForWriting(path, 0);
    ASSERT_TRUE(connection.ok());
    LiveJobs live_jobs;
    WriteContext context{**connection, live_jobs, clock_};
    Effects effects;
    Query key(**connection, "SELECT key FROM jobs");
    ASSERT_TRUE(key.Step());
    job_key = key.Int(0);
    MarkDeleted(context, {job_key, TestId(1), "ann", v1::Job::SUCCEEDED}, effects);
    AddJobCounts(**connection, effects.state_deltas);
    Query bytes(**connection, "SELECT sum(length(payload)) FROM records");
    ASSERT_TRUE(bytes.Step());
    const int64_t before = bytes.Int(0);
    ASSERT_GT(before, 2 * kDeleteSliceBytes);
    ASSERT_TRUE(DeleteSlice(**connection, job_key));
    Query left(**connection, "SELECT sum(length(payload)) FROM records");
    ASSERT_TRUE(left.Step());
    EXPECT_NEAR(static_cast<double>(before - left.Int(0)), kDeleteSliceBytes, 64 << 10);
  }
  // The next server finds the rest.
  EXPECT_TRUE(HasFiles(1));
  Open(absl::InfiniteDuration());
  EXPECT_TRUE(store_->CountByState().empty());
  ASSERT_TRUE(store_->Maintain().ok());
  EXPECT_EQ(Orphans(), 0);
  EXPECT_FALSE(HasFiles(1));
  store_.reset();
  auto connection = OpenForWriting(path, 0);
  EXPECT_TRUE(PendingDeletions(**connection).empty());
}

TEST_F(StoreDeletionTest, WatchersAreToldThatTheJobIsGone) {
  MakeEnded(1, 3);
  std::promise<std::string> told;
  store_->SetCommitListener(
      [&](const std::string& job_id, int64_t, bool) { told.set_value(job_id); });
  ASSERT_TRUE(store_->DeleteJobAndWait(TestId(1)).ok());
  EXPECT_EQ(told.get_future().get(), TestId(1));
  store_->SetCommitListener(nullptr);
}

TEST_F(StoreDeletionTest, RetentionRemovesWholeEndedJobsOnly) {
  MakeEnded(1, 10);
  clock_.Advance(absl::Hours(24));
  MakeEnded(2, 10);
  ASSERT_TRUE(CreateAndWait(*store_, TestJob(TestId(3))).ok());
  Open(absl::Hours(48));
  clock_.Advance(absl::Hours(23));
  ASSERT_TRUE(store_->Maintain().ok());
  EXPECT_EQ(store_->ListJobs({}, 10, "")->jobs.size(), 3u);
  clock_.Advance(absl::Hours(2));
  ASSERT_TRUE(store_->Maintain().ok());
  EXPECT_EQ(store_->GetJob(TestId(1)).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(HasFiles(1));
  EXPECT_TRUE(HasFiles(2));
  EXPECT_EQ(Orphans(), 0);
  clock_.Advance(absl::Hours(1000));
  ASSERT_TRUE(store_->Maintain().ok());
  EXPECT_EQ(store_->ListJobs({}, 10, "")->jobs.size(), 1u);  // the queued one
}

TEST_F(StoreDeletionTest, AStepOfTheWallClockMakesNoJobOld) {
  MakeEnded(1, 10);
  Open(absl::Hours(24));
  clock_.JumpWallClock(absl::Hours(72));
  ASSERT_TRUE(store_->Maintain().ok());
  EXPECT_TRUE(store_->GetJob(TestId(1)).ok());
  // The other jobs' housekeeping goes on.
  MakeEnded(2, 10);
  ASSERT_TRUE(store_->DeleteJobAndWait(TestId(2)).ok());
  ASSERT_TRUE(store_->Maintain().ok());
  EXPECT_FALSE(HasFiles(2));
  // Put right again: ages count, and a step as NTP makes it is none.
  clock_.JumpWallClock(-absl::Hours(72) + absl::Minutes(2));
  clock_.Advance(absl::Hours(23));
  ASSERT_TRUE(store_->Maintain().ok());
  EXPECT_TRUE(store_->GetJob(TestId(1)).ok());
  clock_.Advance(absl::Hours(1));
  ASSERT_TRUE(store_->Maintain().ok());
  EXPECT_EQ(store_->GetJob(TestId(1)).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(StoreDeletionTest, AStartConfirmsTheWallClock) {
  MakeEnded(1, 10);
  Open(absl::Hours(24));
  clock_.JumpWallClock(absl::Hours(72));
  ASSERT_TRUE(store_->Maintain().ok());
  ASSERT_TRUE(store_->GetJob(TestId(1)).ok());
  Open(absl::Hours(24));
  ASSERT_TRUE(store_->Maintain().ok());
  EXPECT_EQ(store_->GetJob(TestId(1)).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(StoreDeletionTest, RequestIdsAreKeptForAWeekAlsoOverARestart) {
  const auto create = [&](int number, const std::string& hash) {
    return CreateAndWait(*store_, TestJob(TestId(number), "ann"), "same", hash);
  };
  ASSERT_TRUE(create(1, "first")->created);
  clock_.Advance(kRequestLifetime - absl::Minutes(1));
  ASSERT_TRUE(store_->Maintain().ok());
  Open(absl::InfiniteDuration());
  EXPECT_EQ(create(2, "first")->job.name(), "jobs/" + TestId(1));
  EXPECT_EQ(create(2, "other").status().code(), absl::StatusCode::kAlreadyExists);
  clock_.Advance(absl::Minutes(2));
  // Not removed yet, and worth nothing all the same.
  const auto anew = create(2, "other");
  ASSERT_TRUE(anew.ok()) << anew.status();
  EXPECT_TRUE(anew->created);
  // Removed when its time is over.
  clock_.Advance(kRequestLifetime + absl::Minutes(1));
  ASSERT_TRUE(store_->Maintain().ok());
  std::unique_ptr<Connection> connection = OpenForReading(folder_.path() + "/normlab.db");
  Query query(*connection, "SELECT count(*) FROM requests");
  ASSERT_TRUE(query.Step());
  EXPECT_EQ(query.Int(0), 0);
  EXPECT_EQ(store_->ListJobs({}, 10, "")->jobs.size(), 2u);
}

TEST_F(StoreDeletionTest, UsageOfOwnersSurvives) {
  std::promise<absl::Status> saved;
  store_->SaveUsage({{"ann", 12.5, clock_.Now()}, {"bob", 0.25, clock_.Now()}},
                    [&](absl::Status status) { saved.set_value(std::move(status)); });
  ASSERT_TRUE(saved.get_future().get().ok());
  std::promise<absl::Status> again;
  clock_.Advance(absl::Hours(1));
  store_->SaveUsage({{"ann", 3.5, clock_.Now()}},
                    [&](absl::Status status) { again.set_value(std::move(status)); });
  ASSERT_TRUE(again.get_future().get().ok());
  Open(absl::InfiniteDuration());
  const auto usage = store_->LoadUsage();
  ASSERT_TRUE(usage.ok());
  ASSERT_EQ(usage->size(), 2u);
  EXPECT_EQ((*usage)[0].owner, "ann");
  EXPECT_EQ((*usage)[0].core_seconds, 3.5);
  EXPECT_EQ((*usage)[0].as_of, clock_.Now());
  EXPECT_EQ((*usage)[1].core_seconds, 0.25);
}

TEST_F(StoreDeletionTest, FilesOfCheckpointsAndTheFinalWeightsAreListed) {
  ASSERT_TRUE(CreateAndWait(*store_, TestJob(TestId(1))).ok());
  const AttemptKey attempt = StartAttempt(*store_, TestId(1));
  const std::string folder = absl::StrCat("jobs/", TestId(1), "/attempt-1");
  const auto add = [&](v1::ArtifactFile& file, const std::string& path, int64_t bytes) {
    file.set_path(path);
    file.set_file_name("weights.safetensors");
    file.set_bytes(bytes);
    file.set_sha256(std::string(64, 'a'));
  };
  Reporter reporter;
  for (const int64_t step : {10, 20, 30}) {
    v1::CheckpointAnnouncement& checkpoint = *reporter.report().mutable_checkpoint();
    checkpoint.set_step(step);
    checkpoint.set_folder(absl::StrCat(folder, "/checkpoints/", step));
    add(*checkpoint.add_files(), absl::StrCat(checkpoint.folder(), "/model"), step);
    ASSERT_TRUE(AppendAndWait(*store_, attempt, reporter.Take()).ok());
  }
  EXPECT_EQ(store_->GetJob(TestId(1))->artifact_bytes(), 50);  // the last two
  v1::WorkerReport outside;
  for (const char* path : {"jobs/other/attempt-1/x", "/etc/passwd", "x"}) {
    add(*reporter.report().mutable_checkpoint()->add_files(), path, 1);
    reporter.report().mutable_checkpoint()->set_folder(folder);
    outside = reporter.Take();
    outside.set_number(4);
    EXPECT_EQ(AppendAndWait(*store_, attempt, outside).status().code(),
              absl::StatusCode::kInvalidArgument)
        << path;
  }
  add(*outside.mutable_checkpoint()->mutable_files(0), folder + "/../../other", 1);
  EXPECT_EQ(AppendAndWait(*store_, attempt, outside).status().code(),
            absl::StatusCode::kInvalidArgument);
  Reporter last(4);
  last.Outcome(v1::Job::SUCCEEDED, 40);
  add(*last.report().mutable_outcome()->add_files(), folder + "/final/model", 7);
  ASSERT_TRUE(AppendAndWait(*store_, attempt, last.Take()).ok());
  const auto artifacts = store_->ListArtifacts(TestId(1));
  ASSERT_TRUE(artifacts.ok()) << artifacts.status();
  ASSERT_EQ(artifacts->size(), 3u);
  const std::vector<int64_t> steps = {20, 30, 40};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ((*artifacts)[i].artifact.name(),
              absl::StrCat("jobs/", TestId(1), "/artifacts/", i + 2));
    EXPECT_EQ((*artifacts)[i].artifact.step(), steps[i]);
    EXPECT_EQ((*artifacts)[i].final, i == 2);
  }
  EXPECT_EQ(store_->GetJob(TestId(1))->artifact_bytes(), 57);
}

}  // namespace
}  // namespace normlab::server
