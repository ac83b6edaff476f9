#include "server/store/backup.h"

#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "common/sha256.h"
#include "server/domain/names.h"
#include "server/store/schema.h"
#include "server/store/store.h"
#include "server/store/testing/harness.h"

namespace normlab::server {
namespace {

using testing::AllPoints;
using testing::AppendAndWait;
using testing::CreateAndWait;
using ::testing::HasSubstr;
using testing::Reporter;
using testing::StartAttempt;
using testing::StoredPoint;
using testing::TempFolder;
using testing::TestId;
using testing::TestJob;

namespace fs = std::filesystem;

class BackupTest : public ::testing::Test {
 protected:
  BackupTest() : data_dir_(folder_.path() + "/data"), work_dir_(data_dir_ + "/work") {
    fs::create_directories(work_dir_);
    Open();
  }

  void Open() {
    auto store = Store::Open({.data_dir = data_dir_, .work_dir = work_dir_});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  void Write(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }

  // A checkpoint as a worker leaves and announces it: a folder with a weights file (announced) and a manifest.
  v1::WorkerReport Checkpoint(Reporter& reporter, const AttemptKey& attempt, int64_t step) {
    const std::string folder =
        absl::StrCat(AttemptFolder(attempt.job_id, attempt.number), "/checkpoints/step-", step);
    const std::string weights = absl::StrCat("weights of step ", step);
    Write(absl::StrCat(work_dir_, "/", folder, "/weights.safetensors"), weights);
    Write(absl::StrCat(work_dir_, "/", folder, "/manifest.json"), "{}");
    v1::CheckpointAnnouncement& announced = *reporter.report().mutable_checkpoint();
    announced.set_step(step);
    announced.set_folder(folder);
    v1::ArtifactFile& file = *announced.add_files();
    file.set_path(folder + "/weights.safetensors");
    file.set_file_name("weights.safetensors");
    file.set_bytes(static_cast<int64_t>(weights.size()));
    file.set_sha256(common::Sha256Hex(weights));
    return reporter.Take();
  }

  TempFolder folder_;
  const std::string data_dir_;
  const std::string work_dir_;
  std::unique_ptr<Store> store_;
};

TEST_F(BackupTest, ACopyHasEveryJobPointFileAndNoProcess) {
  ASSERT_TRUE(CreateAndWait(*store_, TestJob(TestId(1)), "r", "h").ok());
  ASSERT_TRUE(CreateAndWait(*store_, TestJob(TestId(2), "ann")).ok());
  const AttemptKey attempt = StartAttempt(*store_, TestId(1));
  AttemptSecrets secrets;
  secrets.process_identity = "boot/4026531836/4711/123";
  ASSERT_TRUE(store_
                  ->UpdateJobAndWait(
                      TestId(1),
                      [](v1::Job&, std::vector<v1::Segment>&) { return absl::OkStatus(); }, secrets)
                  .ok());
  Reporter reporter;
  ASSERT_TRUE(AppendAndWait(*store_, attempt,
                            reporter.Define(1, "loss").Block({1}, {0, 1, 2}, {3, 2, 1.5}).Take())
                  .ok());
  ASSERT_TRUE(AppendAndWait(*store_, attempt, Checkpoint(reporter, attempt, 3)).ok());
  Write(absl::StrCat(work_dir_, "/", AttemptFolder(TestId(1), 1), "/worker.log"), "hello\n");
  Write(work_dir_ + "/cache/decoded", "can be made again");
  Write(data_dir_ + "/datasets/mine/x.npy", "numbers");
  fs::permissions(data_dir_ + "/datasets", fs::perms(0755));
  ASSERT_EQ(store_->GetAttemptSecrets(attempt)->process_identity, "boot/4026531836/4711/123");

  const std::string target = folder_.path() + "/copy/";
  const auto made = BackUp({.data_dir = data_dir_, .work_dir = work_dir_, .target = target});
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_TRUE(fs::equivalent(made->target, folder_.path() + "/copy"));
  EXPECT_EQ(made->jobs, 2);
  EXPECT_EQ(made->schema, SchemaVersion());
  EXPECT_EQ(made->job_files, 3) << "weights, manifest, log";
  EXPECT_EQ(made->dataset_files, 1);
  EXPECT_EQ(made->missing_files, 0);
  EXPECT_FALSE(fs::exists(work_dir_ + "/backup-links"));
  EXPECT_FALSE(fs::exists(made->target + ".partial"));
  EXPECT_FALSE(fs::exists(made->target + "/work/cache"));
  EXPECT_FALSE(fs::exists(made->target + "/normlab.db-wal")) << "one file";
  struct stat info = {};
  ASSERT_EQ(stat((made->target + "/datasets").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0755u);

  auto restored = Store::Open({.data_dir = made->target, .work_dir = made->target + "/work"});
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(AllPoints(**restored, TestId(1)), AllPoints(*store_, TestId(1)));
  EXPECT_EQ((*restored)->GetJob(TestId(1))->SerializeAsString().size(),
            store_->GetJob(TestId(1))->SerializeAsString().size());
  EXPECT_EQ((*restored)->GetJob(TestId(2))->owner(), "ann");
  EXPECT_FALSE(CreateAndWait(**restored, TestJob(TestId(3)), "r", "h")->created);
  const auto copied = (*restored)->GetAttemptSecrets(attempt);
  EXPECT_EQ(copied->process_identity, "")
      << "a server on the copy must not signal the original's worker";
  EXPECT_EQ(copied->secret_sha256, store_->GetAttemptSecrets(attempt)->secret_sha256);
  EXPECT_EQ(*common::ReadFile(absl::StrCat(made->target, "/work/", copied->checkpoint_folder,
                                           "/weights.safetensors")),
            "weights of step 3");
  EXPECT_EQ((*restored)->ListArtifacts(TestId(1))->size(), 1u);
  EXPECT_EQ(store_->GetAttemptSecrets(attempt)->process_identity, "boot/4026531836/4711/123")
      << "the original is as it was";
}

// A worker that writes checkpoints and removes old ones as fast as it can, all the while.
TEST_F(BackupTest, UnderLoadEveryCopyIsOfOneMoment) {
  ASSERT_TRUE(CreateAndWait(*store_, TestJob(TestId(1))).ok());
  const AttemptKey attempt = StartAttempt(*store_, TestId(1));
  std::atomic<bool> stop = false;
  std::atomic<int64_t> step = 0;
  std::thread worker([&] {
    Reporter reporter;
    reporter.Define(1, "loss");
    for (int64_t i = 0; !stop.load(); ++i) {
      reporter.Block({1}, {i}, {static_cast<double>(i)});
      EXPECT_TRUE(AppendAndWait(*store_, attempt, reporter.Take()).ok());
      EXPECT_TRUE(AppendAndWait(*store_, attempt, Checkpoint(reporter, attempt, i + 1)).ok());
      fs::remove_all(absl::StrCat(work_dir_, "/", AttemptFolder(attempt.job_id, attempt.number),
                                  "/checkpoints/step-", i - 1));
      step.store(i + 1);
    }
  });
  int64_t last = 0;
  for (int round = 0; round < 4; ++round) {
    const int64_t before = step.load();
    const std::string target = absl::StrCat(folder_.path(), "/copy", round);
    const auto made = BackUp({.data_dir = data_dir_, .work_dir = work_dir_, .target = target});
    ASSERT_TRUE(made.ok()) << made.status();
    auto restored = Store::Open({.data_dir = target, .work_dir = target + "/work"});
    ASSERT_TRUE(restored.ok()) << restored.status();
    const std::vector<StoredPoint> points = AllPoints(**restored, TestId(1));
    EXPECT_GE(static_cast<int64_t>(points.size()), before) << "all that was acknowledged before";
    for (size_t i = 0; i < points.size(); ++i) {
      ASSERT_EQ(points[i].step, static_cast<int64_t>(i));
    }
    // The checkpoint that the database would go on from is there, and has no step that the curve lacks.
    const std::string checkpoint = (*restored)->GetAttemptSecrets(attempt)->checkpoint_folder;
    if (!checkpoint.empty()) {
      EXPECT_TRUE(fs::exists(absl::StrCat(target, "/work/", checkpoint, "/manifest.json")));
      EXPECT_LE(std::stoll(checkpoint.substr(checkpoint.rfind('-') + 1)),
                static_cast<int64_t>(points.size()));
    }
    EXPECT_GE(static_cast<int64_t>(points.size()), last);
    last = static_cast<int64_t>(points.size());
    const int64_t at = step.load();
    while (step.load() < at + 3) {
      std::this_thread::yield();
    }
  }
  stop.store(true);
  worker.join();
}

TEST_F(BackupTest, RefusesWithTheReasonAndLeavesNothing) {
  ASSERT_TRUE(CreateAndWait(*store_, TestJob(TestId(1))).ok());
  const AttemptKey attempt = StartAttempt(*store_, TestId(1));
  Reporter reporter;
  ASSERT_TRUE(AppendAndWait(*store_, attempt, Checkpoint(reporter, attempt, 3)).ok());
  const std::string target = folder_.path() + "/copy";
  const auto back_up = [&](const std::string& data, const std::string& to) {
    return BackUp({.data_dir = data, .work_dir = work_dir_, .target = to}).status();
  };
  EXPECT_EQ(back_up(folder_.path() + "/nowhere", target).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(back_up(data_dir_, data_dir_).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(back_up(data_dir_, data_dir_ + "/datasets/x").code(),
            absl::StatusCode::kInvalidArgument);
  // A file that the disk has damaged.
  Write(absl::StrCat(work_dir_, "/", AttemptFolder(attempt.job_id, attempt.number),
                     "/checkpoints/step-3/weights.safetensors"),
        "weights of step 4");
  const absl::Status damaged = back_up(data_dir_, target);
  EXPECT_EQ(damaged.code(), absl::StatusCode::kDataLoss) << damaged;
  EXPECT_THAT(std::string(damaged.message()), HasSubstr("weights.safetensors"));
  for (const std::string& path : {target, target + ".partial", work_dir_ + "/backup-links"}) {
    EXPECT_FALSE(fs::exists(path)) << path;
  }
  // One that is gone costs the checkpoint, not the backup.
  fs::remove_all(absl::StrCat(work_dir_, "/jobs"));
  const auto made = BackUp({.data_dir = data_dir_, .work_dir = work_dir_, .target = target});
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->missing_files, 2) << "the file and the folder";
  auto restored = Store::Open({.data_dir = target, .work_dir = target + "/work"});
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_TRUE((*restored)->ListArtifacts(TestId(1))->empty());
}

}  // namespace
}  // namespace normlab::server
