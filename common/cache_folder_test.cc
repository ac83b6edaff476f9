#include "common/cache_folder.h"

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace normlab::common {
namespace {

namespace fs = std::filesystem;
constexpr int64_t kMiB = int64_t{1} << 20;

class CacheFolderTest : public ::testing::Test {
 protected:
  CacheFolderTest() : folder_(absl::StrCat(::testing::TempDir(), "/cache_folder.", getpid())) {
    fs::create_directories(folder_);
  }
  ~CacheFolderTest() override { fs::remove_all(folder_); }

  // A sparse file.
  void Add(const std::string& name, int64_t bytes, std::chrono::minutes age) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path) << "x";
    fs::resize_file(path, static_cast<uintmax_t>(bytes));
    fs::last_write_time(path, fs::file_time_type::clock::now() - age);
  }
  bool Has(const std::string& name) const { return fs::exists(folder_ + "/" + name); }

  const std::string folder_;
};

TEST_F(CacheFolderTest, CountsWhatDecodedSetsTake) {
  EXPECT_EQ(CacheBytes(folder_ + "/none"), 0);
  Add("a.nldata", 3 * kMiB, std::chrono::minutes(0));
  Add("b.nldata.0123.tmp", kMiB, std::chrono::minutes(0));
  Add("notes.txt", 7 * kMiB, std::chrono::minutes(0));
  EXPECT_EQ(CacheBytes(folder_), 4 * kMiB);
  EXPECT_GT(FreeBytes(folder_), 0);
  EXPECT_EQ(FreeBytes(folder_ + "/none"), 0);
}

// Sets may take half of what is free and theirs; the oldest go for a new one.
TEST_F(CacheFolderTest, OldSetsGoForANewOneWhereTheDiskIsSmall) {
  Add("used-first.nldata", 30 * kMiB, std::chrono::minutes(40));
  Add("used-later.nldata", 30 * kMiB, std::chrono::minutes(20));
  // Half of 60 + 70.
  EXPECT_TRUE(MakeRoomInCache(folder_, 5 * kMiB, 70 * kMiB).ok());
  EXPECT_TRUE(Has("used-first.nldata"));
  EXPECT_TRUE(MakeRoomInCache(folder_, 6 * kMiB, 70 * kMiB).ok());
  EXPECT_FALSE(Has("used-first.nldata"));
  EXPECT_TRUE(Has("used-later.nldata"));
}

TEST_F(CacheFolderTest, SetsThatWorkersMayBeAboutToMapStayAndTheNewOneWaits) {
  Add("just-now.nldata", 30 * kMiB, std::chrono::minutes(1));
  Add("long-ago.nldata", 10 * kMiB, std::chrono::minutes(9));
  const absl::Status status = MakeRoomInCache(folder_, 21 * kMiB, 60 * kMiB);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "it takes 21 MiB")) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "half of the 100 MiB")) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "30 MiB are in use")) << status;
  EXPECT_TRUE(Has("just-now.nldata"));
  EXPECT_FALSE(Has("long-ago.nldata"));
  EXPECT_TRUE(MakeRoomInCache(folder_, 15 * kMiB, 60 * kMiB).ok());
}

TEST_F(CacheFolderTest, TheLeastCacheIsWhatWasUsedWithinMoments) {
  Add("just-now.nldata", kMiB, std::chrono::minutes(1));
  Add("long-ago.nldata", kMiB, std::chrono::minutes(9));
  Add("cut.nldata.0123.tmp", kMiB, std::chrono::minutes(9));
  PruneCacheFolder(folder_, kLeastCache);
  EXPECT_TRUE(Has("just-now.nldata"));
  EXPECT_FALSE(Has("long-ago.nldata"));
  EXPECT_FALSE(Has("cut.nldata.0123.tmp"));
}

}  // namespace
}  // namespace normlab::common
