#include "engine/data/mapped_dataset.h"

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "common/random.h"
#include "engine/data/dataset_format.h"
#include "engine/data/testing.h"

namespace normlab::engine {
namespace {

using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

class MappedDatasetTest : public ::testing::Test {
 protected:
  MappedDatasetTest()
      : path_(::testing::TempDir() + "/mapped_dataset_test." + std::to_string(getpid()) + "." +
              ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".nldata") {}
  ~MappedDatasetTest() override { std::filesystem::remove(path_); }

  MappedDataset WriteAndOpen(const DecodedDataset& data) {
    EXPECT_TRUE(WriteDataset(data, path_).ok());
    auto mapped = MappedDataset::Open(path_);
    EXPECT_TRUE(mapped.ok()) << mapped.status();
    EXPECT_TRUE(mapped->VerifyContents().ok());
    return *std::move(mapped);
  }

  const std::string path_;
};

DecodedDataset DenseFloats() {
  DecodedDataset data;
  data.shape = {.channels = 3,
                .height = 1,
                .width = 1,
                .train_examples = 5,
                .test_examples = 2,
                .targets = 2,
                .dense = true,
                .floats = true};
  // The third feature never changes, and 0.1f summed up five times is not five times 0.1f.
  data.train.floats = {1, -4, 0.1F, 2, 5, 0.1F, 4, 0, 0.1F, 8, -1, 0.1F, 16, 7, 0.1F};
  data.train.targets = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  data.test.floats = {-1, -2, -3, -4, -5, -6};
  data.test.targets = {11, 12, 13, 14};
  return data;
}

TEST_F(MappedDatasetTest, FloatsAndTargetsComeBackWithMomentsPerFeature) {
  const DecodedDataset data = DenseFloats();
  const MappedDataset mapped = WriteAndOpen(data);
  EXPECT_EQ(mapped.shape(), data.shape);
  EXPECT_THAT(mapped.train().bytes, IsEmpty());
  EXPECT_THAT(mapped.train().labels, IsEmpty());
  EXPECT_THAT(mapped.train().floats, ElementsAreArray(data.train.floats));
  EXPECT_THAT(mapped.train().targets, ElementsAreArray(data.train.targets));
  EXPECT_THAT(mapped.test().floats, ElementsAreArray(data.test.floats));
  EXPECT_THAT(mapped.test().targets, ElementsAreArray(data.test.targets));
  // Of 1, 2, 4, 8, 16 and of -4, 5, 0, -1, 7, by hand.
  constexpr double kRounding = 1e-12;
  EXPECT_NEAR(mapped.channel_means()[0], 6.2, kRounding);
  EXPECT_NEAR(mapped.channel_deviations()[0], std::sqrt(341.0 / 5 - 6.2 * 6.2), kRounding);
  EXPECT_NEAR(mapped.channel_means()[1], 1.4, kRounding);
  EXPECT_NEAR(mapped.channel_deviations()[1], std::sqrt(91.0 / 5 - 1.4 * 1.4), kRounding);
  EXPECT_EQ(mapped.channel_means()[2], 0.1F);
  EXPECT_EQ(mapped.channel_deviations()[2], 0);
}

TEST_F(MappedDatasetTest, ItsSha256IsThatOfShapeValuesAndAnswers) {
  const DecodedDataset data = DenseFloats();
  const std::string sha256 = WriteAndOpen(data).sha256();
  EXPECT_EQ(sha256.size(), 64U);
  EXPECT_EQ(WriteAndOpen(data).sha256(), sha256) << "in another file";
  DecodedDataset other = data;
  other.train.floats[7] = 0.5F;
  EXPECT_NE(WriteAndOpen(other).sha256(), sha256);
  other = data;
  other.test.targets[3] = 15;
  EXPECT_NE(WriteAndOpen(other).sha256(), sha256);
  // The same bytes behind the header: one channel of 5x1 pixels, or of 1x5.
  DecodedDataset image;
  image.shape = {.channels = 1,
                 .height = 5,
                 .width = 1,
                 .classes = 2,
                 .train_examples = 2,
                 .test_examples = 1};
  image.train.bytes = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  image.train.labels = {0, 1};
  image.test.bytes = {5, 4, 3, 2, 1};
  image.test.labels = {1};
  const std::string upright = WriteAndOpen(image).sha256();
  std::swap(image.shape.height, image.shape.width);
  EXPECT_NE(WriteAndOpen(image).sha256(), upright);
}

TEST_F(MappedDatasetTest, ImagesOfFloatsHaveMomentsPerChannel) {
  DecodedDataset data;
  data.shape = {.channels = 2,
                .height = 3,
                .width = 5,
                .classes = 70,
                .train_examples = 7,
                .test_examples = 1,
                .floats = true};
  const common::RandomStream random(3, "images");
  double sum[2] = {};
  double squares[2] = {};
  for (int n = 0; n < 7; ++n) {
    data.train.labels.push_back(10 * n);
    for (int i = 0; i < 30; ++i) {
      // A mean that is large against the deviation.
      data.train.floats.push_back(static_cast<float>(1000 * (i / 15) + random.Normal(n, i)));
      sum[i / 15] += data.train.floats.back();
    }
  }
  for (int n = 0; n < 7; ++n) {
    for (int i = 0; i < 30; ++i) {
      squares[i / 15] += std::pow(data.train.floats[n * 30 + i] - sum[i / 15] / 105, 2);
    }
  }
  data.test.floats.assign(30, 1);
  data.test.labels = {69};
  const MappedDataset mapped = WriteAndOpen(data);
  EXPECT_THAT(mapped.train().labels, ElementsAreArray(data.train.labels));
  constexpr double kSummation = 1e-9;
  for (int channel = 0; channel < 2; ++channel) {
    EXPECT_NEAR(mapped.channel_means()[channel], sum[channel] / 105, kSummation);
    EXPECT_NEAR(mapped.channel_deviations()[channel], std::sqrt(squares[channel] / 105),
                kSummation);
  }
}

TEST_F(MappedDatasetTest, SectionsAreAlignedForTheirElements) {
  const DatasetShape odd = {.channels = 1,
                            .height = 3,
                            .width = 7,
                            .classes = 3,
                            .train_examples = 5,
                            .test_examples = 3};
  const DecodedDataset data = testing::MakePatterns(odd, 1);
  const MappedDataset mapped = WriteAndOpen(data);
  for (const MappedPart* part : {&mapped.train(), &mapped.test()}) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(part->bytes.data()) % 64, 0U);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(part->labels.data()) % 64, 0U);
  }
  EXPECT_THAT(mapped.test().bytes, ElementsAreArray(data.test.bytes));
  EXPECT_THAT(mapped.test().labels, ElementsAreArray(data.test.labels));
}

TEST_F(MappedDatasetTest, OtherVersionsAndDamagedFilesAreRefused) {
  WriteAndOpen(DenseFloats());
  const std::string good = *common::ReadFile(path_);
  const auto refused = [&](const std::string& contents) {
    testing::WriteOrDie(path_, contents);
    return MappedDataset::Open(path_).status().code() == absl::StatusCode::kDataLoss;
  };
  std::string version1 = good;
  version1[6] = 1;
  EXPECT_TRUE(refused(version1));
  for (size_t i = 0; i < sizeof(dataset_format::Header); ++i) {
    std::string damaged = good;
    damaged[i] = static_cast<char>(damaged[i] ^ 4);
    EXPECT_TRUE(refused(damaged)) << i;
  }
  EXPECT_TRUE(refused(good.substr(0, good.size() - 1)));
  EXPECT_TRUE(refused(good + "x"));
  std::string no_number = good;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  no_number.replace(dataset_format::kHeaderBytes, sizeof(nan), reinterpret_cast<const char*>(&nan),
                    sizeof(nan));
  EXPECT_TRUE(refused(no_number));
  // Any byte after the header is covered by the checksum.
  std::string changed = good;
  changed.back() = 1;
  testing::WriteOrDie(path_, changed);
  EXPECT_FALSE(MappedDataset::Open(path_)->VerifyContents().ok());
}

TEST_F(MappedDatasetTest, SizesThatDoNotFitTogetherAreNotWritten) {
  const auto code = [&](const DecodedDataset& data) { return WriteDataset(data, path_).code(); };
  DecodedDataset data = DenseFloats();
  data.train.floats.pop_back();
  EXPECT_EQ(code(data), absl::StatusCode::kInvalidArgument);
  data = DenseFloats();
  data.test.labels = {0, 1};
  EXPECT_EQ(code(data), absl::StatusCode::kInvalidArgument);
  data = DenseFloats();
  data.shape.classes = 2;  // both classes and targets
  EXPECT_EQ(code(data), absl::StatusCode::kInvalidArgument);
  data = DenseFloats();
  data.shape.targets = 0;
  data.shape.classes = 3;
  data.train.targets.clear();
  data.test.targets.clear();
  data.train.labels = {0, 1, 2, 0, 1};
  data.test.labels = {0, 3};  // out of range
  EXPECT_EQ(code(data), absl::StatusCode::kInvalidArgument);
  data.test.labels = {0, 2};
  EXPECT_EQ(code(data), absl::StatusCode::kOk);
  EXPECT_EQ(WriteDataset(data, "/proc/none/x.nldata").code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace normlab::engine
