#include "engine/data/batch_source.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
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
  BatchSourceTest()
      : path_(absl::StrCat(::testing::TempDir(), "/batch_source_test.", getpid(), ".nldata")) {
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

// Floats per feature and targets; every fourth value is far from 0.
DecodedDataset Regression() {
  DecodedDataset data;
  data.shape = {.channels = 5,
                .height = 1,
                .width = 1,
                .train_examples = 23,
                .test_examples = 7,
                .targets = 3,
                .dense = true,
                .floats = true};
  for (DecodedPart* part : {&data.train, &data.test}) {
    const int examples = part == &data.train ? 23 : 7;
    for (int i = 0; i < 5 * examples; ++i) {
      part->floats.push_back(static_cast<float>(i % 5 == 3 ? 1e6 + i : std::sin(i)));
    }
    for (int i = 0; i < 3 * examples; ++i) {
      part->targets.push_back(static_cast<float>(i));
    }
  }
  return data;
}

TEST_F(BatchSourceTest, DenseFloatsAreStandardizedPerFeatureAndKeepTheirTargets) {
  const DecodedDataset data = Regression();
  ASSERT_TRUE(WriteDataset(data, path_ + ".dense").ok());
  const auto mapped = MappedDataset::Open(path_ + ".dense");
  ASSERT_TRUE(mapped.ok());
  for (const bool standardize : {true, false}) {
    BatchSource source(Spec(standardize ? "batch_size: 4" : "batch_size: 4 data{scaling: NONE}"),
                       *mapped);
    std::vector<float> inputs(4 * 5);
    std::vector<float> targets(4 * 3);
    source.LoadTraining(2, absl::MakeSpan(inputs), {}, absl::MakeSpan(targets));
    for (int n = 0; n < 4; ++n) {
      const int index = static_cast<int>(targets[n * 3]) / 3;
      for (int j = 0; j < 3; ++j) {
        EXPECT_EQ(targets[n * 3 + j], data.train.targets[index * 3 + j]);
      }
      for (int i = 0; i < 5; ++i) {
        double expected = data.train.floats[index * 5 + i];
        if (standardize) {
          expected = (expected - mapped->channel_means()[i]) / mapped->channel_deviations()[i];
        }
        // Computed in double, so even a mean of a million costs no digits.
        constexpr double kOneRounding = 1e-7;
        EXPECT_NEAR(inputs[n * 5 + i], expected, kOneRounding * (1 + std::abs(expected)));
      }
    }
    std::vector<float> test_targets(2 * 3);
    inputs.resize(2 * 5);
    source.LoadTest(5, absl::MakeSpan(inputs), {}, absl::MakeSpan(test_targets));
    EXPECT_THAT(test_targets, ElementsAreArray({15, 16, 17, 18, 19, 20}));
  }
  std::filesystem::remove(path_ + ".dense");
}

TEST_F(BatchSourceTest, DenseBytesAreScaledPerFeature) {
  DecodedDataset data = data_;
  data.shape.channels = kPixels;
  data.shape.height = 1;
  data.shape.width = 1;
  data.shape.dense = true;
  ASSERT_TRUE(WriteDataset(data, path_ + ".dense").ok());
  const auto mapped = MappedDataset::Open(path_ + ".dense");
  ASSERT_TRUE(mapped.ok());
  BatchSource source(Spec("batch_size: 23 data { shuffle: false }"), *mapped);
  std::vector<float> inputs(23 * kPixels);
  std::vector<int32_t> labels(23);
  source.LoadTraining(0, absl::MakeSpan(inputs), absl::MakeSpan(labels));
  for (int i = 0; i < kPixels; ++i) {
    const ByteTransform transform = MakeByteTransform(
        v1::Scaling::STANDARDIZE, mapped->channel_means()[i], mapped->channel_deviations()[i]);
    EXPECT_EQ(
        inputs[7 * kPixels + i],
        static_cast<float>(data.train.bytes[7 * kPixels + i]) * transform.scale + transform.shift);
  }
  std::filesystem::remove(path_ + ".dense");
}

TEST_F(BatchSourceTest, ClassesCanBeTargetsOrBothOrNeither) {
  BatchSource source(Spec("batch_size: 4"), *mapped_);
  std::vector<float> inputs(4 * kPixels);
  std::vector<int32_t> labels(4);
  std::vector<float> targets(4 * 4, 9);
  source.LoadTraining(1, absl::MakeSpan(inputs), absl::MakeSpan(labels), absl::MakeSpan(targets));
  for (int n = 0; n < 4; ++n) {
    for (int j = 0; j < 4; ++j) {
      EXPECT_EQ(targets[n * 4 + j], j == labels[n] ? 1 : 0);
    }
  }
  std::vector<float> only_targets(4 * 4, 9);
  source.LoadTraining(1, absl::MakeSpan(inputs), {}, absl::MakeSpan(only_targets));
  EXPECT_EQ(only_targets, targets);
  std::vector<float> only_inputs(4 * kPixels);
  source.LoadTraining(1, absl::MakeSpan(only_inputs), {});
  EXPECT_EQ(only_inputs, inputs);
}

TEST_F(BatchSourceTest, AugmentedStepsCanBeLoadedAtAnyTimeAndTestExamplesNeverChange) {
  const v1::JobSpec spec =
      Spec("batch_size: 4 seed: 2 data { augmentation { pad_and_crop: 2 flip: true cutout: 2 } }");
  const v1::JobSpec plain = Spec("batch_size: 4 seed: 2");
  const auto load = [](BatchSource& source, int64_t step) {
    std::vector<float> inputs(4 * kPixels);
    source.LoadTraining(step, absl::MakeSpan(inputs), {});
    return inputs;
  };
  BatchSource in_order(spec, *mapped_);
  BatchSource without(plain, *mapped_);
  std::vector<std::vector<float>> batches;
  for (int step = 0; step < 15; ++step) {
    batches.push_back(load(in_order, step));
    EXPECT_NE(batches.back(), load(without, step));
  }
  for (int step = 14; step >= 0; step -= 4) {
    BatchSource fresh(spec, *mapped_);
    EXPECT_EQ(load(fresh, step), batches[step]);
  }
  std::vector<float> changed(7 * kPixels);
  std::vector<float> unchanged(7 * kPixels);
  in_order.LoadTest(0, absl::MakeSpan(changed), {});
  without.LoadTest(0, absl::MakeSpan(unchanged), {});
  EXPECT_EQ(changed, unchanged);
}

// A batch large enough to be shared out.
TEST(BatchSourceThreadsTest, TheNumberOfThreadsChangesNothing) {
  const std::string path =
      absl::StrCat(::testing::TempDir(), "/batch_source_threads_test.", getpid(), ".nldata");
  const DatasetShape shape = {.channels = 3,
                              .height = 61,
                              .width = 67,
                              .classes = 7,
                              .train_examples = 47,
                              .test_examples = 23};
  ASSERT_TRUE(WriteDataset(testing::MakePatterns(shape, 5), path).ok());
  const auto mapped = MappedDataset::Open(path);
  ASSERT_TRUE(mapped.ok());
  v1::JobSpec spec;
  spec.set_batch_size(23);
  spec.mutable_data()->mutable_mnist();
  spec.mutable_data()->mutable_augmentation()->set_pad_and_crop(4);
  spec = Resolve(spec);
  const int64_t values = 23 * shape.example_values();
  BatchSource one(spec, *mapped, 1);
  BatchSource three(spec, *mapped, 3);
  for (const bool test : {false, true}) {
    std::vector<float> inputs[2] = {std::vector<float>(values), std::vector<float>(values)};
    std::vector<int32_t> labels[2] = {std::vector<int32_t>(23), std::vector<int32_t>(23)};
    for (int i = 0; i < 2; ++i) {
      BatchSource& source = i == 0 ? one : three;
      if (test) {
        source.LoadTest(0, absl::MakeSpan(inputs[i]), absl::MakeSpan(labels[i]));
      } else {
        source.LoadTraining(3, absl::MakeSpan(inputs[i]), absl::MakeSpan(labels[i]));
      }
    }
    EXPECT_EQ(inputs[0], inputs[1]);
    EXPECT_EQ(labels[0], labels[1]);
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace normlab::engine
