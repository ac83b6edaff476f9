#include "common/atomic_file.h"

#include <unistd.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

namespace normlab::common {
namespace {

class AtomicFileTest : public testing::Test {
 protected:
  AtomicFileTest() : folder_(absl::StrCat(testing::TempDir(), "/atomic_file_test.", getpid())) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~AtomicFileTest() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(AtomicFileTest, ReplacesTheWholeFileAndLeavesNothingElse) {
  const std::string path = folder_ + "/file";
  ASSERT_TRUE(WriteFileAtomically(path, std::string(100000, 'a')).ok());
  ASSERT_TRUE(WriteFileAtomically(path, "short").ok());
  EXPECT_EQ(ReadFile(path).value(), "short");
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_)) {
    ++entries;
  }
  EXPECT_EQ(entries, 1);
}

TEST_F(AtomicFileTest, AFailureNamesThePathAndKeepsTheOldFile) {
  const absl::Status status = WriteFileAtomically(folder_ + "/no/such/folder/file", "x");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(std::string(status.message()).find("/no/such/folder/file"), std::string::npos);
}

TEST_F(AtomicFileTest, ReadingIsBounded) {
  const std::string path = folder_ + "/file";
  ASSERT_TRUE(WriteFileAtomically(path, std::string(1000, 'a')).ok());
  EXPECT_EQ(ReadFile(path, 999).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReadFile(path, 1000).value().size(), 1000U);
}

}  // namespace
}  // namespace normlab::common
