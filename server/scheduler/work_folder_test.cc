#include "server/scheduler/work_folder.h"

#include <chrono>
#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/scheduler/controller_test_harness.h"

namespace normlab::server {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr int64_t kNoRoomNeeded = 0;

class WorkFolderTest : public ControllerTest {
 protected:
  void SetUp() override {
    ControllerTest::SetUp();
    controller_->Stop();
    work_ = data_dir_ + "/folder";
    fs::create_directories(work_);
  }
  absl::StatusOr<std::string> Claim(bool new_work_dir = false, bool new_database = false) {
    return ClaimWorkFolder(*store_, {.data_dir = data_dir_,
                                     .work_dir = work_,
                                     .accept_new_work_dir = new_work_dir,
                                     .accept_new_database = new_database});
  }
  // Another, empty folder lies over it, or it is not mounted.
  void Unmount() {
    fs::rename(work_, work_ + ".away");
    fs::create_directories(work_);
  }
  void Mount() {
    fs::remove_all(work_);
    fs::rename(work_ + ".away", work_);
  }
  // What is kept beside the database.
  std::string Known() const {
    std::string mark;
    std::ifstream(data_dir_ + "/" + kWorkMarkFile) >> mark;
    return mark;
  }
  absl::Status Check(const std::string& mark) {
    return CheckWorkFolder(work_, mark, kNoRoomNeeded);
  }

  std::string work_;
};

TEST_F(WorkFolderTest, ANewFolderIsMarkedOnceAndKnownAgain) {
  const auto mark = Claim();
  ASSERT_TRUE(mark.ok()) << mark.status();
  EXPECT_EQ(mark->size(), 32u);
  EXPECT_EQ(Known(), *mark);
  EXPECT_TRUE(Check(*mark).ok());
  EXPECT_EQ(*Claim(), *mark);
}

TEST_F(WorkFolderTest, ABackupTakesOnlyFromTheFolderThatIsKnown) {
  // Restored, and never started.
  EXPECT_TRUE(CheckWorkFolderIsKnown(data_dir_, work_).ok());
  EXPECT_FALSE(IsAnotherWorkFolder(data_dir_, work_ + "x")) << "none is known";
  ASSERT_TRUE(Claim().ok());
  EXPECT_FALSE(IsAnotherWorkFolder(data_dir_, work_));
  EXPECT_TRUE(IsAnotherWorkFolder(data_dir_, work_ + "x"));
  EXPECT_TRUE(CheckWorkFolderIsKnown(data_dir_, work_).ok());
  Unmount();
  const absl::Status unmounted = CheckWorkFolderIsKnown(data_dir_, work_);
  EXPECT_EQ(unmounted.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(unmounted.message()), HasSubstr(work_ + " is not the one"));
  EXPECT_TRUE(fs::is_empty(work_)) << "nothing is made in a folder that is not ours";
  Mount();
  EXPECT_TRUE(CheckWorkFolderIsKnown(data_dir_, work_).ok());
  const absl::Status mistyped = CheckWorkFolderIsKnown(data_dir_, work_ + "x");
  EXPECT_EQ(mistyped.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(mistyped.message()), HasSubstr("--work_dir"));
  EXPECT_FALSE(fs::exists(work_ + "x"));
}

TEST_F(WorkFolderTest, AFolderThatIsNotMountedIsNotTaken) {
  const std::string mark = *Claim();
  Unmount();
  // The server starts, but nothing is started there.
  EXPECT_EQ(*Claim(), mark);
  EXPECT_EQ(Check(mark).code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(Check(mark).message()), HasSubstr("--accept_new_work_dir"));
  EXPECT_TRUE(fs::is_empty(work_)) << "nothing is made in it";
  Mount();
  EXPECT_TRUE(Check(mark).ok());
}

TEST_F(WorkFolderTest, AnOperatorMayTakeANewFolder) {
  const std::string mark = *Claim();
  Unmount();
  const auto another = Claim(/*new_work_dir=*/true);
  ASSERT_TRUE(another.ok()) << another.status();
  EXPECT_NE(*another, mark);
  EXPECT_EQ(Known(), *another);
  EXPECT_TRUE(Check(*another).ok());
}

TEST_F(WorkFolderTest, ANewDatabaseBesideFilesOfJobsIsRefused) {
  fs::create_directories(work_ + "/jobs");
  EXPECT_TRUE(Claim().ok()) << "an empty folder is nobody's";
  fs::remove(data_dir_ + "/" + kWorkMarkFile);
  fs::remove(work_ + "/" + kWorkMarkFile);
  fs::create_directories(work_ + "/jobs/0123/attempt-1");
  const auto refused = Claim();
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("was the database lost?"));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--accept_new_database"));
  EXPECT_EQ(Known(), "");
  EXPECT_TRUE(Claim(false, /*new_database=*/true).ok());
  EXPECT_TRUE(Claim().ok()) << "from then on they belong together";
}

TEST_F(WorkFolderTest, ALostDatabaseIsNotMadeAnew) {
  WorkFolderOptions options = {.data_dir = data_dir_ + "/other", .work_dir = work_};
  fs::create_directories(options.data_dir);
  EXPECT_TRUE(CheckDatabaseIsThere(options).ok()) << "nothing was ever here";
  fs::create_directories(work_ + "/jobs/0123/attempt-1");
  for (const bool empty_file : {false, true}) {
    if (empty_file) {
      std::ofstream(options.data_dir + "/normlab.db").flush();
    }
    const absl::Status refused = CheckDatabaseIsThere(options);
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(refused.message()), HasSubstr("--accept_new_database"));
  }
  options.accept_new_database = true;
  EXPECT_TRUE(CheckDatabaseIsThere(options).ok());
  options.accept_new_database = false;
  std::ofstream(options.data_dir + "/normlab.db-wal") << "not merged yet";
  EXPECT_TRUE(CheckDatabaseIsThere(options).ok());
}

TEST_F(WorkFolderTest, ADatabaseOfATimeBeforeMarksWantsTheCheckpointsThatItKnows) {
  RestartServer({});
  const std::string paused = Submit();
  Run(paused, 1);
  controller_->Stop();
  EXPECT_TRUE(Claim().ok()) << "nothing would be lost";
  fs::remove(data_dir_ + "/" + kWorkMarkFile);
  fs::remove(work_ + "/" + kWorkMarkFile);
  v1::WorkerReport report;
  report.set_number(1);
  report.mutable_checkpoint()->set_step(40);
  report.mutable_checkpoint()->set_folder("jobs/" + paused + "/attempt-1/checkpoints/step-40");
  ASSERT_TRUE(Report({paused, 1}, report).ok());
  for (const bool is_paused : {false, true}) {
    if (is_paused) {
      Pause(paused);
      v1::WorkerReport last;
      last.set_number(2);
      last.mutable_outcome()->set_state(v1::Job::PAUSED);
      ASSERT_TRUE(Report({paused, 1}, last).ok());
      ASSERT_EQ(Get(paused).state(), v1::Job::PAUSED);
    }
    const auto refused = Claim();
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("knows jobs with checkpoints"));
  }
  fs::create_directories(work_ + "/jobs");
  EXPECT_TRUE(Claim().ok());
}

TEST_F(WorkFolderTest, ReadsWhatIsFree) {
  const std::string mark = *Claim();
  const absl::Status full = CheckWorkFolder(work_, mark, int64_t{1} << 60);
  EXPECT_EQ(full.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(full.message()), HasSubstr("is full"));
  EXPECT_FALSE(CheckWorkFolder(work_ + "/none", "", kNoRoomNeeded).ok());
}

TEST_F(WorkFolderTest, WithoutRoomOldDecodedSetsGoAndTheRestIsSaid) {
  const std::string mark = *Claim();
  const std::string cache = work_ + "/cache";
  fs::create_directories(cache);
  const auto add = [&](const std::string& name, std::chrono::minutes age) {
    const std::string path = cache + "/" + name;
    std::ofstream(path) << "x";
    fs::resize_file(path, uintmax_t{3} << 20);
    fs::last_write_time(path, fs::file_time_type::clock::now() - age);
    return path;
  };
  const std::string old = add("old.nldata", std::chrono::minutes(30));
  const std::string used = add("used.nldata", std::chrono::minutes(1));
  constexpr int64_t kTooMuch = int64_t{1} << 60;
  EXPECT_THAT(std::string(CheckWorkFolder(work_, mark, kTooMuch).message()),
              HasSubstr("6 MiB there are decoded data sets"));
  EXPECT_TRUE(MakeRoom(work_, cache, mark, kNoRoomNeeded).ok());
  EXPECT_FALSE(MakeRoom(work_, cache, "another", kTooMuch).ok());
  EXPECT_TRUE(fs::exists(old)) << "there is room, and another folder is not ours";
  const absl::Status full = MakeRoom(work_, cache, mark, kTooMuch);
  EXPECT_THAT(std::string(full.message()), HasSubstr("3 MiB there are decoded data sets"));
  EXPECT_FALSE(fs::exists(old));
  EXPECT_TRUE(fs::exists(used));
}

}  // namespace
}  // namespace normlab::server
