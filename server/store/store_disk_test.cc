// Trouble with a real disk of its own: a small tmpfs in a mount namespace of this process. Where that is not allowed (no
// root, or a container without CAP_SYS_ADMIN) the tests say that they were skipped; store_durability_test.cc has the same
// troubles by limits of the process.
#include <sched.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/domain/errors.h"
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

constexpr absl::Duration kPatience = absl::Seconds(30);

class StoreDiskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // Mounts of this process are nobody else's.
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, "size=12m") != 0) {
      GTEST_SKIP() << "did not run: a file system cannot be mounted here (" << std::strerror(errno)
                   << "); run it as root with CAP_SYS_ADMIN";
    }
    mounted_ = true;
  }
  void TearDown() override {
    store_.reset();
    if (mounted_) {
      umount2(folder_.path().c_str(), MNT_DETACH);
    }
  }

  void Open() {
    auto store = Store::Open({.data_dir = folder_.path()});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  bool BecomesHealthy() {
    const absl::Time limit = absl::Now() + kPatience;
    while (!store_->Health().ok() && absl::Now() < limit) {
      std::this_thread::yield();
    }
    return store_->Health().ok();
  }

  TempFolder folder_;
  bool mounted_ = false;
  std::unique_ptr<Store> store_;
};

TEST_F(StoreDiskTest, AFullDiskRefusesWritesServesReadsAndRecoversWhenThereIsRoom) {
  Open();
  ASSERT_TRUE(CreateAndWait(*store_, TestJob(TestId(1))).ok());
  const AttemptKey attempt = StartAttempt(*store_, TestId(1));
  // Somebody else's file leaves a megabyte or two.
  const std::string ballast = folder_.path() + "/ballast";
  {
    std::ofstream file(ballast, std::ios::binary);
    const std::string block(1 << 20, 'b');
    while (std::filesystem::space(folder_.path()).available > (3 << 20)) {
      file << block << std::flush;
    }
  }
  Reporter reporter;
  reporter.Define(1, "loss");
  absl::Status status;
  int64_t stored = 0;
  v1::WorkerReport refused;
  while (status.ok() && stored < 10'000'000) {
    std::vector<int64_t> steps(2000);
    for (int i = 0; i < 2000; ++i) {
      steps[i] = stored + i;
    }
    refused = reporter.Block({1}, steps, std::vector<double>(2000, 0.5)).Take();
    status = AppendAndWait(*store_, attempt, refused).status();
    stored += status.ok() ? 2000 : 0;
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(ReasonOf(status), reason::kStorageFull);
  EXPECT_FALSE(store_->Health().ok());
  EXPECT_THAT(std::string(store_->Health().message()), ::testing::HasSubstr("full"));
  // The same again: something smaller might fit into what the log had been given already.
  EXPECT_FALSE(AppendAndWait(*store_, attempt, refused).ok());
  EXPECT_EQ(static_cast<int64_t>(AllPoints(*store_, TestId(1)).size()), stored);
  EXPECT_EQ(store_->ListJobs({}, 10, "")->jobs.size(), 1u);
  // Room again: without a restart, and what was refused goes through when it is sent again.
  std::filesystem::remove(ballast);
  EXPECT_TRUE(BecomesHealthy()) << store_->Health();
  EXPECT_TRUE(AppendAndWait(*store_, attempt, refused).ok());
  EXPECT_TRUE(CreateAndWait(*store_, TestJob(TestId(2))).ok());
  EXPECT_EQ(static_cast<int64_t>(AllPoints(*store_, TestId(1)).size()), stored + 2000);
}

TEST_F(StoreDiskTest, AReadOnlyDiskIsSaidClearlyAtTheStart) {
  Open();
  ASSERT_TRUE(CreateAndWait(*store_, TestJob(TestId(1))).ok());
  store_.reset();
  ASSERT_EQ(mount(nullptr, folder_.path().c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr), 0)
      << std::strerror(errno);
  const auto refused = Store::Open({.data_dir = folder_.path()});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable) << refused.status();
  EXPECT_EQ(ReasonOf(refused.status()), reason::kStorageUnavailable);
  ASSERT_EQ(mount(nullptr, folder_.path().c_str(), nullptr, MS_REMOUNT, nullptr), 0);
  Open();
  EXPECT_EQ(store_->ListJobs({}, 10, "")->jobs.size(), 1u);
}

}  // namespace
}  // namespace normlab::server
