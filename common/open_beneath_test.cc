#include "common/open_beneath.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "common/ids.h"

namespace normlab::common {
namespace {

namespace fs = std::filesystem;

class OpenBeneathTest : public ::testing::Test {
 protected:
  OpenBeneathTest() : folder_(absl::StrCat(::testing::TempDir(), "/", NewId(absl::Now()))) {
    fs::create_directories(folder_ + "/root/inside");
    fs::create_directories(folder_ + "/outside");
    std::ofstream(folder_ + "/root/inside/data") << "mine";
    std::ofstream(folder_ + "/outside/data") << "secret";
    fs::create_symlink("data", folder_ + "/root/inside/alias");
    fs::create_symlink("inside", folder_ + "/root/folder-alias");
    fs::create_symlink("../outside", folder_ + "/root/out");
    fs::create_symlink(folder_ + "/root/inside/data", folder_ + "/root/absolute");
    fs::create_symlink("loop", folder_ + "/root/loop");
    root_ = UniqueFd(open((folder_ + "/root").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  ~OpenBeneathTest() override { fs::remove_all(folder_); }

  absl::Status Open(const std::string& path, Links links = Links::kBeneath) {
    return OpenBeneath(root_.get(), path, O_RDONLY, links).status();
  }

  const std::string folder_;
  UniqueFd root_;
};

TEST_F(OpenBeneathTest, OpensWhatLiesBelow) {
  const auto file = OpenBeneath(root_.get(), "inside/data", O_RDONLY);
  ASSERT_TRUE(file.ok()) << file.status();
  char text[5] = {};
  EXPECT_EQ(read(file->get(), text, 4), 4);
  EXPECT_STREQ(text, "mine");
  EXPECT_NE(fcntl(file->get(), F_GETFD) & FD_CLOEXEC, 0) << "workers do not inherit it";
  EXPECT_TRUE(Open("./inside/../inside/data").ok());
  EXPECT_TRUE(absl::IsNotFound(Open("inside/none")));
}

TEST_F(OpenBeneathTest, FollowsLinksThatStayBelowUnlessTold) {
  for (const char* path : {"inside/alias", "folder-alias/data"}) {
    EXPECT_TRUE(Open(path).ok()) << path;
    EXPECT_TRUE(absl::IsPermissionDenied(Open(path, Links::kNone))) << path;
  }
}

TEST_F(OpenBeneathTest, NothingOutsideIsOpened) {
  for (const Links links : {Links::kBeneath, Links::kNone}) {
    for (const char* path : {"out/data", "../outside/data", "/etc/passwd", "absolute", "loop",
                             "inside/../../outside/data"}) {
      EXPECT_TRUE(absl::IsPermissionDenied(Open(path, links))) << path;
    }
  }
}

TEST_F(OpenBeneathTest, TheWalkFollowsNoLinksAndNeverGoesUp) {
  EXPECT_TRUE(WalkBeneath(root_.get(), "./inside//data", O_RDONLY).ok());
  EXPECT_TRUE(absl::IsNotFound(WalkBeneath(root_.get(), "inside/none", O_RDONLY).status()));
  for (const char* path : {"out/data", "inside/alias", "folder-alias/data", "../outside/data",
                           "inside/../inside/data", "absolute", "loop"}) {
    EXPECT_FALSE(WalkBeneath(root_.get(), path, O_RDONLY).ok()) << path;
  }
}

}  // namespace
}  // namespace normlab::common
