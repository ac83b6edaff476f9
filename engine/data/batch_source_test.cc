#include "engine/data/batch_source.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "engine/data/testing.h"
#include "engine/spec/resolve.h"

namespace normlab::engine {
namespace {

using ::testing::ElementsAreArray;

constexpr DatasetShape kShape = {
    .channels = 2, .height = 3, .width = 5, .classes = 4, .train_examples = 23, .test_examples = 7};
constexpr int64_t kPixels = 30;

// Every image carries its own index in its first pixel of both channels.
DecodedDataset Numbered() {
  DecodedDataset data = testing::MakePatterns(kShape, 5);
  for (int n = 0; n < kShape.train_examples; ++n) {
    data.train.bytes[n * kPixels] = static_cast<uint8_t>(n);
  }
  return data;
}

class BatchSourceTest : public ::testing::Test {
 protected:
  BatchSourceTest() : path_(::testing::TempDir() + "/batch_source_test.nldata") {
    data_ = Numbered();
    EXPECT_TRUE(WriteDataset(data_, path_).ok());
    auto mapped = MappedDataset::Open(path_);
    EXPECT_TRUE(mapped.ok()) << mapped.status();
    mapped_ = std::make_unique<MappedDataset>(*std::move(mapped));
  }
  ~BatchSourceTest() override { std::filesystem::remove(path_); }

  static v1::JobSpec Spec(const std::string& text) {
    v1::JobSpec spec;
    spec.mutable_model()->mutable_mlp();
    spec.mutable_data()->mutable_mnist();
    EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(text, &spec));
    return Resolve(spec);
  }

  // Indices of the examples of a batch, after a check that pixels and labels belong together.
  std::vector<int> Load(BatchSource& source, int64_t step) {
    const int64_t count = source.BatchSizeOf(step);
    std::vector<float> images(count * kPixels);
    std::vector<int32_t> labels(count);
    source.LoadTraining(step, absl::MakeSpan(images), absl::MakeSpan(labels));
    std::vector<int> indices;
    for (int64_t n = 0; n < count; ++n) {
      const int index = static_cast<int>(images[n * kPixels]);
      indices.push_back(index);
      EXPECT_EQ(labels[n], data_.train.labels[index]);
      for (int64_t i = 0; i < kPixels; ++i) {
        EXPECT_EQ(images[n * kPixels + i], data_.train.bytes[index * kPixels + i]);
      }
    }
    return indices;
  }

  std::string path_;
  DecodedDataset data_;
  std::unique_ptr<MappedDataset> mapped_;
};

TEST_F(BatchSourceTest, AnEpochVisitsEveryExampleOnceInANewOrder) {
  BatchSource source(Spec("batch_size: 4 data { scaling: NONE last_batch: KEEP }"), *mapped_);
  ASSERT_EQ(source.length().steps_per_epoch, 6);
  std::vector<std::vector<int>> epochs;
  for (int epoch = 0; epoch < 2; ++epoch) {
    std::vector<int> order;
    for (int i = 0; i < 6; ++i) {
      const auto batch = Load(source, epoch * 6 + i);
      EXPECT_EQ(batch.size(), i == 5 ? 3U : 4U);
      order.insert(order.end(), batch.begin(), batch.end());
    }
    EXPECT_EQ(std::set<int>(order.begin(), order.end()).size(), 23U);
    EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
    epochs.push_back(order);
  }
  EXPECT_NE(epochs[0], epochs[1]);
}

TEST_F(BatchSourceTest, AnyStepCanBeLoadedAtAnyTime) {
  const v1::JobSpec spec = Spec("batch_size: 4 seed: 9 data { scaling: NONE }");
  BatchSource in_order(spec, *mapped_);
  std::vector<std::vector<int>> batches;
  for (int step = 0; step < 20; ++step) {
    batches.push_back(Load(in_order, step));
  }
  for (int step = 19; step >= 0; step -= 3) {
    BatchSource fresh(spec, *mapped_);
    EXPECT_EQ(Load(fresh, step), batches[step]) << step;
    EXPECT_EQ(Load(in_order, step), batches[step]) << step;
  }
  BatchSource other(Spec("batch_size: 4 seed: 10 data { scaling: NONE }"), *mapped_);
  EXPECT_NE(Load(other, 0), batches[0]);
}

TEST_F(BatchSourceTest, WithoutShuffleExamplesComeInOrderAndLimitsHold) {
  BatchSource source(
      Spec("batch_size: 4 data { scaling: NONE shuffle: false train_limit: 9 test_limit: 5 }"),
      *mapped_);
  EXPECT_EQ(source.length().steps_per_epoch, 2);
  EXPECT_EQ(source.length().test_examples, 5);
  EXPECT_THAT(Load(source, 1), ElementsAreArray({4, 5, 6, 7}));
  EXPECT_THAT(Load(source, 2), ElementsAreArray({0, 1, 2, 3}));
  BatchSource shuffled(Spec("batch_size: 9 data { scaling: NONE train_limit: 9 }"), *mapped_);
  const auto batch = Load(shuffled, 0);
  EXPECT_EQ(*std::max_element(batch.begin(), batch.end()), 8);
}

TEST_F(BatchSourceTest, TestExamplesComeInTheirOwnOrder) {
  const BatchSource source(Spec("data { scaling: NONE }"), *mapped_);
  std::vector<float> images(3 * kPixels);
  std::vector<int32_t> labels(3);
  source.LoadTest(4, absl::MakeSpan(images), absl::MakeSpan(labels));
  for (int64_t i = 0; i < 3 * kPixels; ++i) {
    EXPECT_EQ(images[i], data_.test.bytes[4 * kPixels + i]);
  }
  EXPECT_EQ(labels[2], data_.test.labels[6]);
}

TEST_F(BatchSourceTest, StandardizedTrainingImagesHaveMeanZeroAndVarianceOnePerChannel) {
  BatchSource source(Spec("batch_size: 23"), *mapped_);
  std::vector<float> images(23 * kPixels);
  std::vector<int32_t> labels(23);
  source.LoadTraining(0, absl::MakeSpan(images), absl::MakeSpan(labels));
  constexpr double kRounding = 1e-5;  // inputs are floats of order 1
  for (int channel = 0; channel < 2; ++channel) {
    double sum = 0;
    double squares = 0;
    for (int n = 0; n < 23; ++n) {
      for (int i = 0; i < 15; ++i) {
        const double x = images[n * kPixels + channel * 15 + i];
        sum += x;
        squares += x * x;
      }
    }
    EXPECT_NEAR(sum / (23 * 15), 0, kRounding);
    EXPECT_NEAR(squares / (23 * 15), 1, kRounding);
  }
}

TEST_F(BatchSourceTest, UnitAndSymmetricReachTheirEndsExactly) {
  for (const auto& [scaling, low] :
       {std::pair{v1::Scaling::UNIT, 0.0F}, std::pair{v1::Scaling::SYMMETRIC, -1.0F}}) {
    const ByteTransform transform = MakeByteTransform(scaling, 0.3, 0.2);
    EXPECT_EQ(0.0F * transform.scale + transform.shift, low);
    EXPECT_EQ(255.0F * transform.scale + transform.shift, 1.0F);
  }
}

TEST_F(BatchSourceTest, AConstantChannelIsOnlyCentred) {
  DecodedDataset flat = data_;
  std::fill(flat.train.bytes.begin(), flat.train.bytes.end(), uint8_t{51});
  ASSERT_TRUE(WriteDataset(flat, path_ + ".flat").ok());
  const auto mapped = MappedDataset::Open(path_ + ".flat");
  ASSERT_TRUE(mapped.ok());
  EXPECT_EQ(mapped->channel_deviations()[1], 0);
  const ByteTransform transform = MakeByteTransform(
      v1::Scaling::STANDARDIZE, mapped->channel_means()[1], mapped->channel_deviations()[1]);
  EXPECT_NEAR(51 * transform.scale + transform.shift, 0, 1e-6);
  EXPECT_TRUE(std::isfinite(transform.scale));
  std::filesystem::remove(path_ + ".flat");
}

}  // namespace
}  // namespace normlab::engine
