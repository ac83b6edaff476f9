// Where attempts start, what becomes of older checkpoints, and of jobs that cannot go on.
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/domain/errors.h"
#include "server/scheduler/controller.h"
#include "server/scheduler/controller_test_harness.h"
#include "server/scheduler/retry.h"

namespace normlab::server {
namespace {

using ::testing::HasSubstr;

class ControllerCheckpointTest : public ControllerTest {
 protected:
  static std::string Folder(const AttemptKey& attempt, int64_t step) {
    return "jobs/" + attempt.job_id + "/attempt-" + std::to_string(attempt.number) +
           "/checkpoints/step-" + std::to_string(step);
  }
  // A checkpoint with one file to download.
  void Checkpoint(const AttemptKey& attempt, int64_t report_number, int64_t step) {
    const std::string folder = Folder(attempt, step);
    std::filesystem::create_directories(options_.work_dir + "/" + folder);
    std::ofstream(options_.work_dir + "/" + folder + "/model.safetensors") << step;
    v1::WorkerReport report;
    report.set_number(report_number);
    v1::CheckpointAnnouncement& checkpoint = *report.mutable_checkpoint();
    checkpoint.set_step(step);
    checkpoint.set_folder(folder);
    v1::ArtifactFile& file = *checkpoint.add_files();
    file.set_path(folder + "/model.safetensors");
    file.set_file_name("model.safetensors");
    file.set_bytes(2);
    file.set_sha256(std::string(64, 'a'));
    ASSERT_TRUE(Report(attempt, report).ok());
  }
  // The attempt crashes; its job is queued again, and its back-off is over.
  void CrashAndWait(const AttemptKey& attempt) {
    ExitBySignal(attempt, SIGKILL);
    Advance(options_.drain_grace);
    WaitUntilQueuedAgain(attempt.job_id);
    Advance(RetryDelay(Get(attempt.job_id)));
  }
  bool Exists(const std::string& path) const {
    return std::filesystem::exists(options_.work_dir + "/" + path);
  }
};

TEST_F(ControllerCheckpointTest, AJobWaitsWhileItsCheckpointCannotBeLookedAt) {
  const std::string id = Submit({.max_retries = 3});
  Run(id, 1);
  Checkpoint({id, 1}, 1, 40);
  // The work folder's disk is gone for a while.
  const std::string jobs = options_.work_dir + "/jobs";
  std::filesystem::rename(jobs, jobs + ".away");
  CrashAndWait({id, 1});
  Sync();
  Sync();
  EXPECT_EQ(Get(id).attempts_size(), 1) << "it must not begin anew";
  EXPECT_THAT(controller_->QueueReasons({id})[id], HasSubstr("before it is tried again"));
  // A job that needs nothing of it is not held up.
  helper_.Hold();
  const std::string other = Submit();
  WaitForState(other, v1::Job::STARTING);
  // The pauses between looks grow to a minute.
  Advance(absl::Seconds(1));
  Sync();
  Advance(absl::Seconds(1));
  Sync();
  Sync();
  EXPECT_EQ(Get(id).attempts_size(), 1);
  std::filesystem::rename(jobs + ".away", jobs);
  Advance(absl::Minutes(1));
  WaitForState(id, v1::Job::STARTING);
  helper_.Release();
  EXPECT_EQ(WaitForLaunch(id, 2).assignment.resume_from(),
            options_.work_dir + "/" + Folder({id, 1}, 40));
  EXPECT_EQ(Get(id).attempts(1).start_step(), 40);
}

TEST_F(ControllerCheckpointTest, OlderCheckpointsGoWhenTheNewAttemptHasOne) {
  const std::string id = Submit({.max_retries = 3});
  Run(id, 1);
  Checkpoint({id, 1}, 1, 40);
  Checkpoint({id, 1}, 2, 50);
  CrashAndWait({id, 1});
  Run(id, 2);
  // Should it die now, these are all there is.
  ASSERT_TRUE(store_->Maintain().ok());
  EXPECT_TRUE(Exists(Folder({id, 1}, 40)));
  EXPECT_TRUE(Exists(Folder({id, 1}, 50)));
  EXPECT_EQ(store_->ListArtifacts(id)->size(), 2u);
  Checkpoint({id, 2}, 1, 60);
  // What is listed exists: the rows go first.
  auto artifacts = store_->ListArtifacts(id);
  ASSERT_TRUE(artifacts.ok());
  ASSERT_EQ(artifacts->size(), 1u);
  EXPECT_EQ((*artifacts)[0].artifact.attempt(), 2);
  EXPECT_EQ(Get(id).artifact_bytes(), 2);
  WaitUntil("the older ones are removed",
            [&] { return !Exists("jobs/" + id + "/attempt-1/checkpoints"); });
  EXPECT_TRUE(Exists(Folder({id, 2}, 60)));
}

TEST_F(ControllerCheckpointTest, TheNewestAttemptWithACheckpointCountsNotTheHighestStep) {
  const std::string id = Submit({.max_retries = 5});
  Run(id, 1);
  Checkpoint({id, 1}, 1, 40);
  CrashAndWait({id, 1});
  // Somebody removed it, so the second attempt began anew; now there is something of the first again.
  Run(id, 2);
  Checkpoint({id, 2}, 1, 20);
  WaitUntil("the older ones are removed",
            [&] { return !Exists("jobs/" + id + "/attempt-1/checkpoints"); });
  std::filesystem::create_directories(options_.work_dir + "/" + Folder({id, 1}, 40));
  CrashAndWait({id, 2});
  EXPECT_EQ(WaitForLaunch(id, 3).assignment.resume_from(),
            options_.work_dir + "/" + Folder({id, 2}, 20));
  EXPECT_EQ(Get(id).attempts(2).start_step(), 20);
}

TEST_F(ControllerCheckpointTest, WithoutTheNewestAnOlderOneThatIsThereServes) {
  const std::string id = Submit({.max_retries = 5});
  Run(id, 1);
  Checkpoint({id, 1}, 1, 40);
  CrashAndWait({id, 1});
  Run(id, 2);
  Checkpoint({id, 2}, 1, 60);
  WaitUntil("the older ones are removed",
            [&] { return !Exists("jobs/" + id + "/attempt-1/checkpoints"); });
  // An operator brings back what a backup has.
  std::filesystem::remove_all(options_.work_dir + "/" + Folder({id, 2}, 60));
  std::filesystem::create_directories(options_.work_dir + "/" + Folder({id, 1}, 40));
  CrashAndWait({id, 2});
  EXPECT_EQ(WaitForLaunch(id, 3).assignment.resume_from(),
            options_.work_dir + "/" + Folder({id, 1}, 40));
  EXPECT_EQ(Get(id).attempts(2).start_step(), 40);
}

TEST_F(ControllerCheckpointTest, AReportThatBreaksTheProtocolFailsTheAttempt) {
  const std::string id = Submit({.max_retries = 1});
  const auto session = Run(id, 1);
  controller_->ReportRefused({id, 1}, InvalidReport("step -1 follows step 3"));
  WaitUntil("it is killed", [&] { return !executor_->IsRunning({id, 1}); });
  controller_->Disconnected({id, 1}, session.get());
  WaitUntilQueuedAgain(id);
  EXPECT_EQ(Get(id).attempts(0).failure().reason(), v1::FailureReason::INTERNAL);
  EXPECT_THAT(Get(id).attempts(0).failure().message(), HasSubstr("step -1 follows step 3"));
}

TEST_F(ControllerCheckpointTest, AJobWhoseRecordsAreDamagedEndsForGood) {
  const std::string id = Submit({.max_retries = 3});
  const std::string other = Submit();
  const auto session = Run(id, 1);
  Run(other, 1);
  controller_->ReportRefused({id, 1}, CorruptDatabase("normlab.db", "a stored chunk"));
  WaitUntil("it is killed", [&] { return !executor_->IsRunning({id, 1}); });
  controller_->Disconnected({id, 1}, session.get());
  const v1::Job job = WaitForState(id, v1::Job::FAILED);
  EXPECT_EQ(job.failure().reason(), v1::FailureReason::DATA_LOSS);
  EXPECT_THAT(job.failure().message(), HasSubstr("a stored chunk"));
  EXPECT_EQ(job.attempts(0).state(), v1::Attempt::ENDED);
  WaitUntil("its core is free", [&] { return controller_->GetLoad().free_cores == 3; });
  EXPECT_EQ(Get(other).state(), v1::Job::RUNNING);
}

}  // namespace
}  // namespace normlab::server
