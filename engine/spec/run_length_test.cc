#include "engine/spec/run_length.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "engine/spec/load_plan.h"
#include "engine/spec/resolve.h"

namespace normlab::engine {
namespace {

using ::testing::HasSubstr;

constexpr DatasetShape kShape = {.channels = 1,
                                 .height = 5,
                                 .width = 7,
                                 .classes = 3,
                                 .train_examples = 103,
                                 .test_examples = 11};

v1::JobSpec Spec(const std::string& text) {
  v1::JobSpec spec;
  spec.mutable_model()->mutable_mlp();
  spec.mutable_data()->mutable_mnist();
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(text, &spec)) << text;
  return Resolve(spec);
}

TEST(RunLengthTest, DropsOrKeepsTheIncompleteBatch) {
  RunLength length = ComputeRunLength(Spec("batch_size: 10 epochs: 3"), kShape);
  EXPECT_EQ(length.steps_per_epoch, 10);
  EXPECT_EQ(length.last_batch_size, 0);
  EXPECT_EQ(length.total_steps, 30);
  EXPECT_EQ(length.total_epochs, 3);
  EXPECT_EQ(length.test_examples, 11);

  length = ComputeRunLength(Spec("batch_size: 10 epochs: 3 data { last_batch: KEEP }"), kShape);
  EXPECT_EQ(length.steps_per_epoch, 11);
  EXPECT_EQ(length.last_batch_size, 3);
  EXPECT_EQ(length.total_steps, 33);
}

TEST(RunLengthTest, StepsMayEndInsideAnEpoch) {
  const RunLength length = ComputeRunLength(
      Spec("batch_size: 10 steps: 21 data { train_limit: 57 test_limit: 4 }"), kShape);
  EXPECT_EQ(length.train_examples, 57);
  EXPECT_EQ(length.test_examples, 4);
  EXPECT_EQ(length.steps_per_epoch, 5);
  EXPECT_EQ(length.total_steps, 21);
  EXPECT_EQ(length.total_epochs, 5);
}

TEST(RunLengthTest, LargestBudgetDoesNotOverflow) {
  DatasetShape shape = kShape;
  shape.train_examples = 2147483647;
  const RunLength length = ComputeRunLength(Spec("batch_size: 1 epochs: 1000000"), shape);
  EXPECT_EQ(length.total_steps, 2147483647LL * 1000000);
}

TEST(CheckDataTest, BatchLargerThanTheSet) {
  auto violations = CheckData(Spec("batch_size: 104"), kShape);
  ASSERT_EQ(violations.size(), 1U);
  EXPECT_EQ(violations[0].field, "batch_size");
  EXPECT_THAT(violations[0].description, HasSubstr("is 104, but only 103"));
  EXPECT_TRUE(CheckData(Spec("batch_size: 103"), kShape).empty());
  EXPECT_TRUE(CheckData(Spec("batch_size: 104 data { last_batch: KEEP }"), kShape).empty());
}

TEST(CheckDataTest, LimitsBeyondTheSetAndEmptySets) {
  const auto violations = CheckData(Spec("data { train_limit: 104 test_limit: 12 }"), kShape);
  ASSERT_EQ(violations.size(), 2U);
  EXPECT_EQ(violations[0].field, "data.train_limit");
  EXPECT_EQ(violations[1].field, "data.test_limit");
  EXPECT_EQ(CheckData(Spec(""), DatasetShape{}).size(), 1U);
}

TEST(KnownDatasetShapeTest, KnowsTheMnistFamily) {
  const auto shape = KnownDatasetShape(Spec(""));
  ASSERT_TRUE(shape.has_value());
  EXPECT_EQ(shape->height, 28);
  EXPECT_EQ(shape->classes, 10);
  EXPECT_FALSE(KnownDatasetShape(v1::JobSpec()).has_value());
}

std::vector<std::string> Fields(const std::string& spec, const DatasetShape& shape) {
  std::vector<std::string> fields;
  for (const Violation& violation : CheckData(Spec(spec), shape)) {
    fields.push_back(violation.field);
  }
  return fields;
}

TEST(CheckDataTest, ScalingOfFloatsAndAugmentationOfFeatures) {
  DatasetShape floats = kShape;
  floats.floats = true;
  EXPECT_EQ(Fields("data { scaling: UNIT }", floats), std::vector<std::string>{"data.scaling"});
  EXPECT_EQ(Fields("data { scaling: SYMMETRIC }", floats),
            std::vector<std::string>{"data.scaling"});
  EXPECT_TRUE(Fields("data { scaling: NONE }", floats).empty());
  EXPECT_TRUE(Fields("", floats).empty());
  EXPECT_TRUE(Fields("data { scaling: UNIT }", kShape).empty());

  const std::string all = "data { augmentation { pad_and_crop: 1 flip: true cutout: 1 } }";
  DatasetShape dense = kShape;
  dense.dense = true;
  dense.height = 1;
  dense.width = 1;
  EXPECT_EQ(Fields(all, dense),
            (std::vector<std::string>{"data.augmentation.pad_and_crop", "data.augmentation.flip",
                                      "data.augmentation.cutout"}));
  DatasetShape image = kShape;
  image.height = 5;
  image.width = 7;
  EXPECT_TRUE(Fields(all, image).empty());
  EXPECT_TRUE(Fields("data { augmentation { pad_and_crop: 4 cutout: 5 } }", image).empty());
  EXPECT_EQ(
      Fields("data { augmentation { pad_and_crop: 5 cutout: 6 } }", image),
      (std::vector<std::string>{"data.augmentation.pad_and_crop", "data.augmentation.cutout"}));
}

TEST(KnownDatasetShapeTest, KnowsPublishedAndSyntheticSetsButNotArrays) {
  const auto shape = [](const std::string& data) {
    v1::JobSpec spec;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString("data { " + data + " }", &spec));
    const auto known = KnownDatasetShape(spec);
    EXPECT_EQ(known, KnownDatasetShape(Resolve(spec)));  // resolved or not
    return known;
  };
  EXPECT_EQ(shape("cifar10 {}"), (DatasetShape{3, 32, 32, 10, 50000, 10000}));
  EXPECT_EQ(shape("cifar100 {}"), (DatasetShape{3, 32, 32, 100, 50000, 10000}));
  EXPECT_FALSE(shape("arrays { path: 'a.npz' }").has_value());
  const auto gaussian = shape("gaussian_classes { dims: 3 dims: 8 dims: 9 classes: 4 }");
  EXPECT_EQ(gaussian, (DatasetShape{.channels = 3,
                                    .height = 8,
                                    .width = 9,
                                    .classes = 4,
                                    .train_examples = 10000,
                                    .test_examples = 2000,
                                    .floats = true}));
  EXPECT_EQ(InputDims(*gaussian), (std::vector<int64_t>{3, 8, 9}));
  const auto linear = shape("linear_regression { inputs: 6 test_examples: 50 }");
  EXPECT_EQ(linear, (DatasetShape{.channels = 6,
                                  .height = 1,
                                  .width = 1,
                                  .train_examples = 1000,
                                  .test_examples = 50,
                                  .targets = 10,
                                  .dense = true,
                                  .floats = true}));
  EXPECT_EQ(InputDims(*linear), std::vector<int64_t>{6});
  EXPECT_EQ(DecodedBytes(*linear), 4 * (6 + 10) * 1050);
  // What Validate refuses is no shape.
  EXPECT_FALSE(shape("gaussian_classes { dims: 3 dims: 8 }").has_value());
  EXPECT_FALSE(shape("linear_regression { inputs: -6 }").has_value());
}

TEST(PlanLoadingTest, OnlyLoadingThatWaitsGetsAThread) {
  const DatasetShape small = {3, 32, 32, 10, 50000, 10000};
  DatasetShape large = {3, 224, 224, 10, 8000, 100};  // 1.2 GB
  DatasetShape many = {2, 1, 1, 2, 3000000, 100, 0, /*dense=*/true};
  EXPECT_FALSE(PlanLoading(Spec("threads: 2"), small).prefetch_thread);
  EXPECT_EQ(PlanLoading(Spec("threads: 2"), small).buffer_bytes, 0);
  EXPECT_TRUE(PlanLoading(Spec("threads: 2 batch_size: 8"), large).prefetch_thread);
  EXPECT_EQ(PlanLoading(Spec("threads: 2 batch_size: 8"), large).buffer_bytes,
            2 * 8 * 4 * (3 * 224 * 224 + 1));
  EXPECT_FALSE(PlanLoading(Spec("threads: 1"), large).prefetch_thread);
  EXPECT_TRUE(PlanLoading(Spec("threads: 2"), many).prefetch_thread);
  EXPECT_FALSE(PlanLoading(Spec("threads: 2 data { shuffle: false }"), many).prefetch_thread);
  EXPECT_FALSE(PlanLoading(Spec("threads: 2 data { train_limit: 1000 }"), many).prefetch_thread);
}

}  // namespace
}  // namespace normlab::engine
