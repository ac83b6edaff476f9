#include "engine/data/idx_file.h"

#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/unique_fd.h"
#include "engine/data/testing.h"

namespace normlab::engine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const IdxExpectation kImages = {.rank = 3, .item_dims = {3, 5}};
const IdxExpectation kLabels = {.rank = 1, .item_dims = {}};

std::vector<uint8_t> Ramp(size_t count) {
  std::vector<uint8_t> values(count);
  for (size_t i = 0; i < count; ++i) {
    values[i] = static_cast<uint8_t>(i * 7);
  }
  return values;
}

absl::StatusOr<IdxArray> Read(const std::string& bytes, const IdxExpectation& expected) {
  const common::UniqueFd fd = testing::InMemoryFile(bytes);
  return ReadIdxFile(fd.get(), "images.idx", expected);
}

void ExpectRefused(const std::string& bytes,
                   const IdxExpectation& expected,
                   const ::testing::Matcher<std::string>& message) {
  const auto result = Read(bytes, expected);
  ASSERT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << result.status();
  EXPECT_THAT(std::string(result.status().message()), AllOf(HasSubstr("images.idx"), message));
}

TEST(IdxFileTest, ReadsPlainAndGzippedFiles) {
  const std::string bytes = testing::IdxBytes({4, 3, 5}, Ramp(60));
  const std::string half_gzip =
      testing::Gzip(absl::string_view(bytes).substr(0, 31)) +
      testing::Gzip(absl::string_view(bytes).substr(31));  // two members, as pigz and cat make them
  for (const std::string& file : {bytes, testing::Gzip(bytes), half_gzip}) {
    const auto array = Read(file, kImages);
    ASSERT_TRUE(array.ok()) << array.status();
    EXPECT_EQ(array->count, 4);
    EXPECT_EQ(array->values, Ramp(60));
  }
}

TEST(IdxFileTest, ReadsFilesLargerThanItsBuffers) {
  const std::vector<uint8_t> values = Ramp(15 * 700001);
  const auto array = Read(testing::Gzip(testing::IdxBytes({700001, 3, 5}, values)), kImages);
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_EQ(array->values, values);
}

TEST(IdxFileTest, WrongMagicSaysWhatWasFoundAndExpected) {
  ExpectRefused("PNG!....", kImages, AllOf(HasSubstr("0x504e4721"), HasSubstr("0x00000803")));
  std::string floats = testing::IdxBytes({4, 3, 5}, Ramp(60));
  floats[2] = 0x0D;
  ExpectRefused(floats, kImages, HasSubstr("type 0x0d"));
  ExpectRefused(testing::IdxBytes({4}, Ramp(4)), kImages, HasSubstr("exchanged"));
}

TEST(IdxFileTest, EveryTruncationIsNoticed) {
  const std::string bytes = testing::IdxBytes({4, 3, 5}, Ramp(60));
  for (size_t length = 0; length < bytes.size(); ++length) {
    ExpectRefused(bytes.substr(0, length), kImages, HasSubstr("again"));
  }
  ExpectRefused(bytes.substr(0, bytes.size() - 1), kImages,
                AllOf(HasSubstr("truncated"), HasSubstr("4 items (60 bytes"), HasSubstr("59")));
  const std::string gzip = testing::Gzip(bytes);
  for (size_t length = 2; length < gzip.size(); ++length) {
    ExpectRefused(gzip.substr(0, length), kImages, HasSubstr("ends early"));
  }
}

TEST(IdxFileTest, TrailingBytesAreNoticed) {
  const std::string bytes = testing::IdxBytes({4, 3, 5}, Ramp(61));
  ExpectRefused(bytes, kImages, HasSubstr("trailing bytes"));
  ExpectRefused(testing::Gzip(bytes), kImages, HasSubstr("trailing bytes"));
  ExpectRefused(testing::Gzip(testing::IdxBytes({4, 3, 5}, Ramp(60))) + "x", kImages,
                HasSubstr("other bytes after its gzip data"));
}

TEST(IdxFileTest, EveryFlippedGzipByteIsNoticed) {
  const std::string gzip = testing::Gzip(testing::IdxBytes({4, 3, 5}, Ramp(60)));
  // Bytes 4 to 9 of the header (time, flags of the compressor, system) carry no data.
  for (size_t i = 10; i < gzip.size(); ++i) {
    std::string damaged = gzip;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    EXPECT_FALSE(Read(damaged, kImages).ok()) << "byte " << i;
  }
  std::string bad_crc = gzip;
  bad_crc[gzip.size() - 6] ^= 1;
  ExpectRefused(bad_crc, kImages, HasSubstr("incorrect data check"));
}

TEST(IdxFileTest, WrongSizesAndAbsurdCounts) {
  ExpectRefused(testing::IdxBytes({4, 5, 3}, Ramp(60)), kImages,
                AllOf(HasSubstr("items of 5x3"), HasSubstr("3x5 was expected")));
  ExpectRefused(testing::IdxBytes({0, 3, 5}, {}), kImages, HasSubstr("claims 0 items"));
  ExpectRefused(testing::IdxBytes({0xFFFFFFFF}, Ramp(9)), kLabels, HasSubstr("claims 4294967295"));
  ExpectRefused(testing::IdxBytes({2000000, 3, 5}, Ramp(60)), kImages, HasSubstr("truncated"));
}

// 64 MiB of zeros in a small file: it is given up after the first byte beyond the header's promise.
TEST(IdxFileTest, DecompressionBombIsStopped) {
  std::string bomb = testing::IdxBytes({4, 3, 5}, {});
  bomb.resize(size_t{64} << 20);
  ExpectRefused(testing::Gzip(bomb), kImages, HasSubstr("trailing bytes"));
}

}  // namespace
}  // namespace normlab::engine
