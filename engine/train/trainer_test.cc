#include "engine/train/trainer.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/train/failure.h"
#include "engine/train/model_tensors.h"
#include "engine/train/trainer_test_support.h"

namespace normlab::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(TrainerTest, EveryModelAndNormalizerLearnsFromDefaults) {
  for (const char* model : {"model { mlp {} }", "model { cnn {} }"}) {
    for (const char* norm : {"", " normalization { batch {} }"}) {
      SCOPED_TRACE(std::string(model) + norm);
      RecordingSink sink;
      const v1::Outcome outcome =
          Run(std::string(model) + norm + " batch_size: 32 epochs: 6", sink);
      ASSERT_EQ(outcome.state(), v1::Job::SUCCEEDED) << outcome.ShortDebugString();
      const auto& loss = sink.metrics_["train/loss"];
      ASSERT_EQ(loss.size(), 60U);
      // Random guessing among 10 classes costs ln 10 = 2.3.
      EXPECT_GT(loss.begin()->second, 1.9);
      EXPECT_LT(loss.begin()->second, 3.5);
      EXPECT_LT(loss.rbegin()->second, 0.7 * loss.begin()->second);
      EXPECT_GT(outcome.result().final_metrics().at("test/accuracy"), 0.5);
      EXPECT_FALSE(outcome.result().implementations().empty());
    }
  }
}

TEST_F(TrainerTest, RecordsAreComplete) {
  RecordingSink sink;
  const v1::Outcome outcome = Run(
      std::string(kBatchNormMlp) + "epochs: 2 evaluation { every_steps: 8 batch_size: 20 }", sink);
  ASSERT_EQ(outcome.state(), v1::Job::SUCCEEDED);
  std::vector<int64_t> steps(22);
  std::iota(steps.begin(), steps.end(), 0);
  EXPECT_EQ(sink.Steps("train/loss"), steps);
  EXPECT_EQ(sink.Steps("train/accuracy"), steps);
  EXPECT_EQ(sink.Steps("train/learning_rate"), steps);
  EXPECT_THAT(sink.Steps("test/loss"), ElementsAre(0, 8, 16, 22));
  EXPECT_THAT(sink.Steps("test/accuracy"), ElementsAre(0, 8, 16, 22));
  EXPECT_EQ(sink.examples_, 22 * 30);
  EXPECT_EQ(sink.metrics_["train/learning_rate"][7], 0.05);
  const v1::Result& result = outcome.result();
  EXPECT_EQ(result.steps(), 22);
  EXPECT_EQ(result.final_metrics().at("test/loss"), sink.metrics_["test/loss"][22]);
  EXPECT_EQ(result.final_metrics().at("train/loss"), sink.metrics_["train/loss"][21]);
  EXPECT_EQ(result.weights_sha256().size(), 64U);
  EXPECT_GT(result.training_seconds(), 0);
  // Accuracies are multiples of one example of 47.
  const double correct = sink.metrics_["test/accuracy"][22] * 47;
  EXPECT_NEAR(correct, std::round(correct), 1e-9);
}

TEST_F(TrainerTest, EvaluationByEpochsOrOnlyAtTheEnd) {
  RecordingSink by_epoch;
  Run(std::string(kBatchNormMlp) + "epochs: 4 evaluation { every_epochs: 2 }", by_epoch);
  EXPECT_THAT(by_epoch.Steps("test/loss"), ElementsAre(0, 22, 44));
  RecordingSink at_end;
  Run(std::string(kBatchNormMlp) + "steps: 5 evaluation { every_epochs: 0 }", at_end);
  EXPECT_THAT(at_end.Steps("test/loss"), ElementsAre(5));
}

TEST_F(TrainerTest, StatisticsEstimatedAnewAreForOneMoreEvaluationOnly) {
  // At a rate of 1 running statistics are those of the last batch, so that their mean over many batches is another thing.
  constexpr char kSpec[] =
      "model { mlp { hidden: [33, 17] } } normalization { batch { running_update_rate: 1 } } "
      "batch_size: 30 steps: 24 ";
  RecordingSink plain;
  const v1::Outcome without = Run(kSpec, plain);
  RecordingSink sink;
  const v1::Outcome with = Run(absl::StrCat(kSpec, "evaluation { reestimate_batches: 22 }"), sink);
  ASSERT_EQ(with.state(), v1::Job::SUCCEEDED);
  EXPECT_EQ(with.result().weights_sha256(), without.result().weights_sha256());
  EXPECT_EQ(sink.metrics_["test/loss"], plain.metrics_["test/loss"]);
  EXPECT_FALSE(plain.metrics_.contains("test/loss_reestimated"));
  ASSERT_THAT(sink.Steps("test/loss_reestimated"), ElementsAre(24));
  ASSERT_THAT(sink.Steps("test/accuracy_reestimated"), ElementsAre(24));
  const double reestimated = sink.metrics_["test/loss_reestimated"][24];
  EXPECT_NE(reestimated, sink.metrics_["test/loss"][24]);
  EXPECT_LT(reestimated, sink.metrics_["test/loss"][24] + 0.1);
  // Without updates a slow average of the same batches comes to the same statistics, up to the weights of the batches.
  double losses[2];
  int i = 0;
  for (const char* rate : {"1", "0.05"}) {
    RecordingSink still;
    Run(absl::StrCat(
            "model { mlp { hidden: [33, 17] } } normalization { batch { running_update_rate: ",
            rate,
            " } } batch_size: 30 steps: 1 optimizer { sgd { learning_rate: 0 } } "
            "evaluation { reestimate_batches: 440 }"),
        still);
    losses[i++] = still.metrics_["test/loss_reestimated"][1];
  }
  EXPECT_NEAR(losses[0], losses[1], 2e-3);
  // Nothing has running statistics.
  RecordingSink layer;
  Run("model { mlp {} } normalization { layer {} } batch_size: 30 steps: 2 evaluation { "
      "reestimate_batches: 5 }",
      layer);
  EXPECT_FALSE(layer.metrics_.contains("test/loss_reestimated"));
}

TEST_F(TrainerTest, TheEvaluationBatchSizeChangesNothingBeyondRounding) {
  double loss[3];
  double accuracy[3];
  int i = 0;
  for (const char* batch :
       {"1", "20", "1000"}) {  // 20: a remainder of 7; 1000: more than there are
    RecordingSink sink;
    Run(std::string(kBatchNormMlp) + "steps: 11 evaluation { batch_size: " + batch + " }", sink);
    loss[i] = sink.metrics_["test/loss"][11];
    accuracy[i++] = sink.metrics_["test/accuracy"][11];
  }
  constexpr double kRounding = 1e-5;  // float logits of order 1
  EXPECT_NEAR(loss[0], loss[1], kRounding);
  EXPECT_NEAR(loss[0], loss[2], kRounding);
  EXPECT_EQ(accuracy[0], accuracy[1]);
  EXPECT_EQ(accuracy[0], accuracy[2]);
}

TEST_F(TrainerTest, DivergenceIsAResultWithItsStepAndTheLastFiniteMetrics) {
  RecordingSink sink;
  const v1::Outcome outcome =
      Run("model { mlp { hidden: [33, 17] } } batch_size: 30 steps: 50 "
          "optimizer { sgd { learning_rate: 1e15 } }",
          sink);
  ASSERT_EQ(outcome.state(), v1::Job::DIVERGED) << outcome.ShortDebugString();
  const int64_t step = outcome.result().steps();
  EXPECT_GT(step, 0);
  EXPECT_LT(step, 50);
  EXPECT_EQ(sink.Steps("train/loss").back(), step);
  EXPECT_FALSE(std::isfinite(sink.metrics_["train/loss"][step]));
  EXPECT_TRUE(std::isfinite(sink.metrics_["train/loss"][step - 1]));
  EXPECT_EQ(outcome.result().final_metrics().at("train/loss"),
            sink.metrics_["train/loss"][step - 1]);
  EXPECT_THAT(sink.logs_, ElementsAre(HasSubstr("smaller learning rate")));
}

// oneDNN's ReLU and pooling make plausible numbers of NaN: from then on such a run would train at a
// loss of ln 10 to its end.
TEST_F(TrainerTest, AnOverflowInsideAReluNetIsDivergenceAtOnce) {
  for (const char* model :
       {"mlp { hidden: [300, 300, 300, 300] }",
        "cnn { blocks { channels: 16 } blocks { channels: 16 } blocks { channels: 16 } "
        "blocks { channels: 16 pooling {} } }"}) {
    RecordingSink sink;
    const v1::Outcome outcome =
        Run(std::string("model { ") + model +
                " } batch_size: 128 steps: 12 initializer { he_normal {} scale: 1e13 } "
                "optimizer { sgd { learning_rate: 1e-3 } }",
            sink);
    EXPECT_EQ(outcome.state(), v1::Job::DIVERGED) << model;
    EXPECT_EQ(outcome.result().steps(), 0) << model;
    EXPECT_FALSE(std::isfinite(sink.metrics_["train/loss"][0])) << model;
  }
}

// A variance beyond floats makes batch norm answer with beta, so that the loss stays finite.
TEST_F(TrainerTest, ARunningStatisticThatOverflowsIsDivergenceAfterThatStep) {
  RecordingSink sink;
  const v1::Outcome outcome =
      Run("model { mlp { hidden: [33, 17] } } normalization { batch {} } batch_size: 30 steps: 12 "
          "initializer { he_normal {} scale: 1e22 } optimizer { sgd { learning_rate: 1e-3 } }",
          sink);
  EXPECT_EQ(outcome.state(), v1::Job::DIVERGED);
  EXPECT_EQ(outcome.result().steps(), 1);
  EXPECT_THAT(sink.Steps("train/loss"), ElementsAre(0));
  EXPECT_THAT(sink.logs_, ElementsAre(HasSubstr("running statistic is not finite at step 1")));
}

// Weights of 1e20 and more are finite, what a second layer makes of a first is not.
TEST_F(TrainerTest, AnEvaluationThatOverflowsAtTheEndIsDivergence) {
  RecordingSink sink;
  const v1::Outcome outcome =
      Run("model { mlp { hidden: [13, 11] } } batch_size: 30 steps: 1 "
          "optimizer { sgd { learning_rate: 1e22 } }",
          sink);
  EXPECT_EQ(outcome.state(), v1::Job::DIVERGED) << outcome.ShortDebugString();
  EXPECT_EQ(outcome.result().steps(), 1);
  EXPECT_TRUE(std::isfinite(outcome.result().final_metrics().at("test/loss")));
  EXPECT_THAT(sink.logs_, ElementsAre(HasSubstr("test loss is not finite at step 1")));
}

TEST_F(TrainerTest, AnEvaluationThatOverflowsInBetweenEndsTheRunAtOnce) {
  RecordingSink sink;
  const v1::Outcome outcome =
      Run("model { mlp { hidden: [13, 11] } } batch_size: 30 steps: 9 "
          "evaluation { every_steps: 1 } optimizer { sgd { learning_rate: 1e22 } }",
          sink);
  EXPECT_EQ(outcome.state(), v1::Job::DIVERGED) << outcome.ShortDebugString();
  EXPECT_EQ(outcome.result().steps(), 1);
  EXPECT_THAT(sink.Steps("train/loss"), ElementsAre(0));
  EXPECT_THAT(sink.Steps("test/loss"), ElementsAre(0, 1));
  EXPECT_THAT(sink.logs_, ElementsAre(HasSubstr("test loss is not finite at step 1")));
}

TEST_F(TrainerTest, TheHintOfADivergenceDoesNotAskForANormalizerThatIsThere) {
  for (const char* normalization : {"none {}", "batch {}"}) {
    RecordingSink sink;
    const v1::Outcome outcome =
        Run(absl::StrCat("model { mlp { hidden: [13, 11] } } normalization { ", normalization,
                         " } batch_size: 30 steps: 9 optimizer { sgd { learning_rate: 1e30 } }"),
            sink);
    ASSERT_EQ(outcome.state(), v1::Job::DIVERGED) << outcome.ShortDebugString();
    EXPECT_EQ(absl::StrContains(sink.logs_.back(), "or a normalizer"), normalization[0] == 'n');
  }
}

TEST_F(TrainerTest, AWeightThatOverflowsInTheLastUpdateIsDivergence) {
  RecordingSink sink;
  const v1::Outcome outcome =
      Run("model { mlp { hidden: [9] } } batch_size: 30 steps: 1 data { scaling: NONE } "
          "initializer { scale: 1e12 } optimizer { sgd { learning_rate: 1e30 } }",
          sink);
  EXPECT_EQ(outcome.state(), v1::Job::DIVERGED) << outcome.ShortDebugString();
  EXPECT_EQ(outcome.result().steps(), 1);
}

TEST_F(TrainerTest, LearningRateZeroTrainsNothing) {
  RecordingSink sink;
  const v1::Outcome outcome =
      Run("model { mlp { hidden: [9] } } batch_size: 30 steps: 23 "
          "optimizer { sgd { learning_rate: 0 } } evaluation { every_steps: 5 }",
          sink);
  ASSERT_EQ(outcome.state(), v1::Job::SUCCEEDED);
  for (const auto& [step, loss] : sink.metrics_["test/loss"]) {
    EXPECT_EQ(loss, sink.metrics_["test/loss"][0]) << step;
  }
}

TEST_F(TrainerTest, CancellationEndsAfterTheCurrentStep) {
  RecordingSink sink;
  sink.stop_after_ = 7;
  const v1::Outcome outcome = Run(std::string(kBatchNormMlp) + "steps: 50", sink);
  EXPECT_EQ(outcome.state(), v1::Job::CANCELLED);
  EXPECT_EQ(outcome.result().steps(), 8);
  EXPECT_EQ(sink.Steps("train/loss").back(), 7);
}

TEST_F(TrainerTest, ABatchLargerThanTheSetIsOneStepPerEpochWhenKept) {
  RecordingSink sink;
  const v1::Outcome outcome =
      Run("model { mlp { hidden: [9] } } normalization { batch {} } batch_size: 1000 epochs: 2 "
          "data { last_batch: KEEP }",
          sink);
  ASSERT_EQ(outcome.state(), v1::Job::SUCCEEDED);
  EXPECT_EQ(sink.examples_, 2 * 331);
}

TEST_F(TrainerTest, ErrorsCarryTheirFailureReason) {
  const auto no_checkpoint = Trainer::Plan(
      Spec(kBatchNormMlp), *data_, {.attempt_folder = NewAttempt(), .resume_folder = "/none"});
  EXPECT_EQ(ToFailure(no_checkpoint.status()).reason(), v1::FailureReason::CHECKPOINT_ERROR);

  const auto misfit = Trainer::Plan(Spec(std::string(kBatchNormMlp) + "data { train_limit: 400 }"),
                                    *data_, {.attempt_folder = NewAttempt(), .resume_folder = ""});
  EXPECT_EQ(ToFailure(misfit.status()).reason(), v1::FailureReason::INTERNAL);
  EXPECT_THAT(ToFailure(misfit.status()).message(), HasSubstr("data.train_limit"));

  EXPECT_EQ(ToFailure(absl::ResourceExhaustedError("x")).reason(),
            v1::FailureReason::OUT_OF_MEMORY);
}

TEST(ModelTensorsTest, AllFiniteSeesOneBadValueAnywhere) {
  std::vector<float> values(77, std::numeric_limits<float>::max());
  values[3] = -std::numeric_limits<float>::max();
  EXPECT_TRUE(AllFinite(values));
  for (const float bad :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN()}) {
    for (const size_t position : {0, 40, 76}) {
      std::vector<float> damaged = values;
      damaged[position] = bad;
      EXPECT_FALSE(AllFinite(damaged));
    }
  }
  EXPECT_TRUE(AllFinite({}));
}

}  // namespace
}  // namespace normlab::engine
