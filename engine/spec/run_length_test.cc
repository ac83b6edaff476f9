#include "engine/spec/run_length.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace normlab::engine
