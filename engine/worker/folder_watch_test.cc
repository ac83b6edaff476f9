#include "engine/worker/folder_watch.h"

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "common/ids.h"

namespace normlab::engine {
namespace {

TEST(FolderWatchTest, SeesAFolderThatIsRemovedMovedOrReplaced) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/", common::NewId(absl::Now()));
  EXPECT_FALSE(FolderWatch::Create(path).ok());
  std::filesystem::create_directories(path);
  const auto watch = FolderWatch::Create(path);
  ASSERT_TRUE(watch.ok()) << watch.status();
  EXPECT_FALSE(watch->IsGone());
  std::filesystem::rename(path, path + ".old");
  EXPECT_TRUE(watch->IsGone());
  std::filesystem::create_directories(path);
  EXPECT_TRUE(watch->IsGone());  // another folder of the same name
  std::filesystem::remove(path);
  std::filesystem::rename(path + ".old", path);
  EXPECT_FALSE(watch->IsGone());
  std::filesystem::remove(path);
  EXPECT_TRUE(watch->IsGone());
}

}  // namespace
}  // namespace normlab::engine
