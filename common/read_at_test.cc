#include "common/read_at.h"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/unique_fd.h"

namespace normlab::common {
namespace {

TEST(ReadAtTest, ReadsUpToTheEndAndNoFurther) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/read_at_test.", getpid());
  std::ofstream(path, std::ios::binary) << "0123456789";
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(4, '?');
  EXPECT_EQ(*ReadAt(file.get(), text.data(), 4, 3), 4);
  EXPECT_EQ(text, "3456");
  EXPECT_EQ(*ReadAt(file.get(), text.data(), 4, 8), 2);
  EXPECT_EQ(text, "8956");
  EXPECT_EQ(*ReadAt(file.get(), text.data(), 4, 10), 0);
  EXPECT_FALSE(ReadAt(-1, text.data(), 4, 0).ok());
  unlink(path.c_str());
}

}  // namespace
}  // namespace normlab::common
