#include "engine/data/cifar_file.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/unique_fd.h"
#include "engine/data/testing.h"

namespace normlab::engine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr CifarFormat kTen = {.label_bytes = 1, .classes = 10};
constexpr CifarFormat kHundred = {.label_bytes = 2, .classes = 100};

DecodedPart Records(int32_t classes, int32_t count) {
  return testing::MakePatterns({.channels = 3,
                                .height = 32,
                                .width = 32,
                                .classes = classes,
                                .train_examples = count,
                                .test_examples = 1},
                               classes)
      .train;
}

absl::StatusOr<CifarRecords> Read(const std::string& bytes, const CifarFormat& format) {
  const common::UniqueFd fd = testing::InMemoryFile(bytes);
  return ReadCifarFile(fd.get(), "batch.bin", format);
}

std::string Error(const std::string& bytes, const CifarFormat& format) {
  const auto records = Read(bytes, format);
  EXPECT_EQ(records.status().code(), absl::StatusCode::kInvalidArgument) << records.status();
  EXPECT_THAT(std::string(records.status().message()), HasSubstr("batch.bin"));
  return std::string(records.status().message());
}

TEST(CifarFileTest, ReadsBothFormatsPlainAndGzipped) {
  for (const bool fine : {false, true}) {
    const DecodedPart part = Records(fine ? 100 : 10, 7);
    const std::string bytes = testing::CifarBytes(part, /*coarse=*/fine);
    for (const std::string& file : {bytes, testing::Gzip(bytes)}) {
      const auto records = Read(file, fine ? kHundred : kTen);
      ASSERT_TRUE(records.ok()) << records.status();
      EXPECT_EQ(records->labels, part.labels);
      EXPECT_EQ(records->images, part.bytes);
    }
  }
}

TEST(CifarFileTest, TheFilesOfASetShareItsLimit) {
  const std::string bytes = testing::CifarBytes(Records(10, 3), /*coarse=*/false);
  const common::UniqueFd fd = testing::InMemoryFile(bytes);
  EXPECT_TRUE(ReadCifarFile(fd.get(), "batch.bin", kTen, 3 * 3072).ok());
  const common::UniqueFd again = testing::InMemoryFile(bytes);
  const auto records = ReadCifarFile(again.get(), "batch.bin", kTen, 3 * 3072 - 1);
  EXPECT_THAT(std::string(records.status().message()), HasSubstr("makes the data set larger"));
}

TEST(CifarFileTest, LabelsOutOfRangeAreNamedByIndex) {
  DecodedPart part = Records(10, 5);
  part.labels[3] = 10;
  EXPECT_THAT(Error(testing::CifarBytes(part, false), kTen),
              AllOf(HasSubstr("label 10 at index 3"), HasSubstr("0 to 9")));
  part.labels[3] = 100;
  EXPECT_THAT(Error(testing::CifarBytes(part, true), kHundred), HasSubstr("label 100 at index 3"));
}

TEST(CifarFileTest, PartialRecordsAndEmptyFilesAreRefused) {
  const std::string bytes = testing::CifarBytes(Records(10, 2), false);
  EXPECT_THAT(Error("", kTen), HasSubstr("empty"));
  for (size_t length = 1; length < bytes.size(); length += 3) {
    if (length != bytes.size() / 2) {  // one whole record
      EXPECT_THAT(Error(bytes.substr(0, length), kTen), HasSubstr("3073"));
    }
  }
  EXPECT_THAT(Error(bytes, kHundred), HasSubstr("3074"));
  const std::string gzip = testing::Gzip(bytes);
  for (size_t length = 2; length < gzip.size(); length += 97) {
    EXPECT_THAT(Error(gzip.substr(0, length), kTen), HasSubstr("ends early"));
  }
}

TEST(CifarFileTest, ChangedBytesGiveRecordsOrAnError) {
  const std::string gzip = testing::Gzip(testing::CifarBytes(Records(10, 2), false));
  for (const std::string& changed : testing::Mutations(gzip, 500, 3)) {
    const auto records = Read(changed, kTen);
    if (!records.ok()) {
      EXPECT_THAT(std::string(records.status().message()), HasSubstr("batch.bin"));
    } else {
      EXPECT_EQ(records->images.size(), 3072 * records->labels.size());
    }
  }
}

}  // namespace
}  // namespace normlab::engine
