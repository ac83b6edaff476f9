#include "engine/optim/schedule.h"

#include <string>

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "engine/spec/resolve.h"
#include "engine/spec/validate.h"

namespace normlab::engine {
namespace {

constexpr RunLength kLength = {.steps_per_epoch = 7, .total_steps = 40};

double Rate(const std::string& text, int64_t step, const RunLength& length = kLength) {
  v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "model { mlp {} } data { mnist {} } " + text, &spec))
      << text;
  EXPECT_TRUE(Validate(spec).empty()) << text;
  return LearningRateAt(Resolve(spec), step, length);
}

TEST(ScheduleTest, ConstantIsTheOptimizersRate) {
  for (const int64_t step : {0, 1, 39}) {
    EXPECT_EQ(Rate("", step), 0.1);
    EXPECT_EQ(Rate("optimizer { sgd { learning_rate: 0 } }", step), 0);
    EXPECT_EQ(Rate("optimizer { adam {} } schedule { constant {} }", step), 1e-3);
    EXPECT_EQ(Rate("optimizer { adamw { learning_rate: 0.25 } }", step), 0.25);
    EXPECT_EQ(Rate("optimizer { rmsprop {} }", step), 0.01);
  }
}

TEST(ScheduleTest, MilestonesInEpochsDependOnTheStepsOfAnEpoch) {
  const std::string text =
      "optimizer { sgd { learning_rate: 1 } } schedule { step { milestone_epochs: [2, 4] "
      "factor: 0.5 } }";
  EXPECT_EQ(Rate(text, 13), 1);
  EXPECT_EQ(Rate(text, 14), 0.5);
  EXPECT_EQ(Rate(text, 27), 0.5);
  EXPECT_EQ(Rate(text, 28), 0.25);
  EXPECT_EQ(Rate(text, 14, {.steps_per_epoch = 8, .total_steps = 40}), 1);
}

TEST(ScheduleTest, MilestoneStepsTakeEffectAtTheirStep) {
  const std::string text =
      "optimizer { sgd { learning_rate: 8 } } schedule { step { milestone_steps: [3, 4] "
      "factor: 0.25 } }";
  EXPECT_EQ(Rate(text, 2), 8);
  EXPECT_EQ(Rate(text, 3), 2);
  EXPECT_EQ(Rate(text, 4), 0.5);
}

TEST(ScheduleTest, CosineGoesFromOneToTheFinalFactor) {
  const std::string text =
      "optimizer { sgd { learning_rate: 2 } } schedule { cosine { "
      "final_factor: 0.5 } }";
  EXPECT_EQ(Rate(text, 0), 2);
  EXPECT_DOUBLE_EQ(Rate(text, 20), 1.5);  // half of the way
  EXPECT_GT(Rate(text, 39), 1);
  EXPECT_LT(Rate(text, 39), 1.01);
}

TEST(ScheduleTest, WarmupMultipliesWhatTheScheduleSays) {
  const std::string base = "optimizer { sgd { learning_rate: 4 } } ";
  const std::string warm = base + "schedule { warmup_steps: 4 }";
  EXPECT_EQ(Rate(warm, 0), 1);
  EXPECT_EQ(Rate(warm, 1), 2);
  EXPECT_EQ(Rate(warm, 2), 3);
  EXPECT_EQ(Rate(warm, 3), 4);
  EXPECT_EQ(Rate(warm, 4), 4);
  // A milestone within the warm-up.
  const std::string step =
      base + "schedule { step { milestone_steps: 2 factor: 0.5 } warmup_steps: 4 }";
  EXPECT_EQ(Rate(step, 1), 2);
  EXPECT_EQ(Rate(step, 2), 1.5);
  EXPECT_EQ(Rate(step, 4), 2);
  const std::string cosine = "schedule { cosine {} }";
  EXPECT_DOUBLE_EQ(Rate(base + "schedule { cosine {} warmup_steps: 10 }", 5),
                   0.6 * Rate(base + cosine, 5));
}

TEST(ScheduleTest, OneCycleOfOneStepHasAFiniteRate) {
  const RunLength one = {.steps_per_epoch = 1, .total_steps = 1};
  // The peak lies before the only step, which is the end.
  EXPECT_DOUBLE_EQ(Rate("schedule { one_cycle {} }", 0, one), 0.1 / 25 / 1e4);
  EXPECT_EQ(Rate("schedule { one_cycle { warmup_share: 1 } }", 0, one), 0.1);
  EXPECT_DOUBLE_EQ(Rate("schedule { one_cycle { warmup_share: 0 } }", 0, one), 0.1 / 25 / 1e4);
}

}  // namespace
}  // namespace normlab::engine
