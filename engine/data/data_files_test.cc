// What stands between a spec's paths and the rest of the machine.
#include "engine/data/data_files.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace normlab::engine {
namespace {

namespace fs = std::filesystem;

class DataFilesTest : public ::testing::Test {
 protected:
  DataFilesTest() {
    std::string pattern = absl::StrCat(::testing::TempDir(), "/files.XXXXXX");
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    root_ = folder_ + "/root";
    fs::create_directories(root_ + "/inside");
    fs::create_directories(folder_ + "/outside");
    Write("root/inside/data", "allowed");
    Write("outside/data", "secret");
  }
  ~DataFilesTest() override { fs::remove_all(folder_); }

  void Write(const std::string& path, const std::string& text) {
    std::ofstream(folder_ + "/" + path) << text;
  }

  static std::string Contents(const DataFile& file) {
    char buffer[64];
    const ssize_t count = pread(file.fd.get(), buffer, sizeof(buffer), 0);
    return std::string(buffer, count < 0 ? 0 : static_cast<size_t>(count));
  }

  // What can be read at a path; empty: nothing.
  std::string At(const std::string& path) {
    const auto file = OpenDataFile(path, {root_});
    return file.ok() ? Contents(*file) : "";
  }

  std::string folder_;
  std::string root_;
};

TEST_F(DataFilesTest, NothingOutsideOfTheRootsIsOpened) {
  EXPECT_EQ(At("inside/data"), "allowed");
  EXPECT_EQ(At(root_ + "/inside/data"), "allowed");
  EXPECT_EQ(At("inside/../inside/data"), "allowed");
  fs::create_symlink("inside", root_ + "/link");
  EXPECT_EQ(At("link/data"), "allowed") << "a link that stays below the root";
  fs::create_symlink("../outside", root_ + "/up");
  fs::create_symlink(folder_ + "/outside", root_ + "/absolute");
  fs::create_symlink("../../outside/data", root_ + "/inside/file");
  fs::create_symlink("/proc/self/root", root_ + "/magic");
  for (const std::string& path :
       std::vector<std::string>{"../outside/data",
                                "inside/../../outside/data",
                                "up/data",
                                "absolute/data",
                                "inside/file",
                                folder_ + "/outside/data",
                                root_ + "/../outside/data",
                                root_ + "x/data",
                                "magic" + folder_ + "/outside/data",
                                "/etc/passwd",
                                "/proc/self/environ",
                                "",
                                "/",
                                ".",
                                "..",
                                "inside",
                                "inside/",
                                "inside/data/",
                                std::string("inside/data\0x", 13).substr(0, 12),
                                std::string(5000, 'a'),
                                std::string(5000, '/') + "etc/passwd"}) {
    const std::string contents = At(path);
    EXPECT_TRUE(contents.empty() || contents == "allowed") << path << " gave " << contents;
  }
}

TEST_F(DataFilesTest, OnlyRegularFilesAreOpenedAndNothingWaits) {
  ASSERT_EQ(mkfifo((root_ + "/pipe").c_str(), 0600), 0);
  EXPECT_EQ(OpenDataFile("pipe", {root_}).status().code(), absl::StatusCode::kNotFound);
  // As the administrator may have put it there.
  const std::vector<std::string> devices = {"/dev"};
  for (const char* device : {"zero", "null", "tty", "full"}) {
    EXPECT_FALSE(OpenDataFile(device, devices).ok()) << device;
  }
}

TEST_F(DataFilesTest, ALinkThatIsExchangedMeanwhileNeverLeadsOutside) {
  // Somebody with access to the root exchanges a folder for a link to the outside, all the time.
  fs::create_directory(root_ + "/a");
  Write("root/a/data", "allowed");
  fs::create_symlink(folder_ + "/outside", root_ + "/b");
  std::atomic<bool> stop = false;
  std::atomic<int64_t> swaps = 0;
  std::thread swapper([&] {
    while (!stop.load()) {
      ASSERT_EQ(renameat2(AT_FDCWD, (root_ + "/a").c_str(), AT_FDCWD, (root_ + "/b").c_str(),
                          RENAME_EXCHANGE),
                0);
      swaps.fetch_add(1);
    }
  });
  // Until both were met often enough.
  int64_t allowed = 0;
  int64_t refused = 0;
  int64_t leaked = 0;
  constexpr int64_t kWanted = 2000;
  constexpr int64_t kMaxRounds = 2'000'000;
  for (int64_t round = 0; round < kMaxRounds && (allowed < kWanted || refused < kWanted); ++round) {
    const std::string contents = At(round % 2 == 0 ? "a/data" : root_ + "/a/data");
    allowed += contents == "allowed" ? 1 : 0;
    refused += contents.empty() ? 1 : 0;
    leaked += contents == "secret" ? 1 : 0;
  }
  stop.store(true);
  swapper.join();
  EXPECT_EQ(leaked, 0);
  EXPECT_GE(allowed, kWanted) << swaps.load() << " exchanges";
  EXPECT_GE(refused, kWanted) << swaps.load() << " exchanges";
}

}  // namespace
}  // namespace normlab::engine
