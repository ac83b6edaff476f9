// NaN and overflow end a run as DIVERGED at their step, with the last finite metrics kept, whatever
// lies between the overflow and the loss: ReLU and maximum pooling make plausible numbers of NaN,
// sums and averages spread it, normalizers divide it away.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"

#include "tests/numeric/training_run.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {
namespace {

using ::testing::HasSubstr;

constexpr char kImages[] =
    "data { gaussian_classes { classes: 4 dims: [3, 8, 10] train_examples: 256 test_examples: 64 "
    "separation: 12 } } batch_size: 32 steps: 60 evaluation { every_epochs: 0 } ";

constexpr const char* kModels[] = {
    "mlp { hidden: [24, 16] }",
    "mlp { depth: 4 width: 16 skip_connections: true }",
    "cnn { blocks { channels: 8 pooling {} } blocks { channels: 12 pooling { kind: AVERAGE } } }",
    "deep_linear { depth: 4 width: 16 }",
    "vgg { depth: 11 width_multiplier: 0.125 }",
    "resnet { depth: 20 width_multiplier: 0.5 }",
    "resnet { depth: 20 width_multiplier: 0.5 shortcut: ZERO_PAD }",
};

// What every diverged run must say: its step, what was not finite, and the last finite metrics.
void ExpectDiverged(const std::string& what, const TrainingResult& result) {
  const v1::Outcome& outcome = result.outcome;
  ASSERT_EQ(outcome.state(), v1::Job::DIVERGED)
      << what << ": " << outcome.ShortDebugString().substr(0, 500);
  ASSERT_FALSE(result.curves.logs.empty()) << what;
  EXPECT_THAT(result.curves.logs.back(), HasSubstr("smaller learning rate")) << what;
  EXPECT_THAT(result.curves.logs.back(), HasSubstr(absl::StrCat("step ", outcome.result().steps())))
      << what;
  const std::vector<double>& losses = result.curves.train_loss;
  ASSERT_FALSE(losses.empty()) << what;
  // Only the last loss may be anything but a number; nothing trains on after it.
  const auto bad =
      std::find_if(losses.begin(), losses.end(), [](double loss) { return !std::isfinite(loss); });
  EXPECT_GE(bad, losses.end() - 1) << what;
  const auto last_finite =
      std::find_if(losses.rbegin(), losses.rend(), [](double loss) { return std::isfinite(loss); });
  const auto& metrics = outcome.result().final_metrics();
  if (last_finite == losses.rend()) {
    EXPECT_FALSE(metrics.contains("train/loss")) << what;
  } else {
    ASSERT_TRUE(metrics.contains("train/loss")) << what;
    EXPECT_EQ(metrics.at("train/loss"), *last_finite) << what;
  }
  for (const auto& [name, value] : metrics) {
    EXPECT_TRUE(std::isfinite(value)) << what << " " << name;
  }
}

void ExpectRunDiverges(const std::string& what, const std::string& spec) {
  const auto result = RunTraining(spec);
  ASSERT_TRUE(result.ok()) << what << ": " << result.status();
  ExpectDiverged(what, *result);
}

TEST(DivergenceTest, AnAbsurdLearningRateWithoutNormalizer) {
  for (const char* model : kModels) {
    ExpectRunDiverges(model, absl::StrCat(kImages, "model { ", model,
                                          " } optimizer { sgd { learning_rate: 1e20 } }"));
  }
}

// Every kind of the contract, in a net with maximum pooling and in one with sums.
std::vector<std::string> Normalizers() {
  const google::protobuf::OneofDescriptor* kinds =
      v1::Normalizer::descriptor()->FindOneofByName("kind");
  std::vector<std::string> names;
  for (int i = 0; i < kinds->field_count(); ++i) {
    names.push_back(kinds->field(i)->name());
  }
  return names;
}

TEST(DivergenceTest, WeightsThatOverflowBehindEveryNormalizer) {
  // A normalizer divides the size of the weights away, so that outputs stay in range until the
  // weights are infinite: the decay multiplies them by -1e30 a step.
  for (const std::string& normalizer : Normalizers()) {
    for (const char* model : {"cnn { blocks { channels: 8 pooling {} } blocks { channels: 12 } }",
                              "resnet { depth: 20 width_multiplier: 0.5 }"}) {
      if (model[0] == 'c' && (normalizer == "fixup" || normalizer == "skip_init")) {
        continue;  // only of residual networks
      }
      ExpectRunDiverges(
          absl::StrCat(model, " with ", normalizer),
          absl::StrCat(kImages, "model { ", model, " } normalization { ", normalizer,
                       " {} } optimizer { sgd { learning_rate: 1e30 weight_decay: 1 } }"));
    }
  }
}

TEST(DivergenceTest, AnOverflowInTheFirstForwardPass) {
  // Weights whose products leave the range of floats within two layers.
  for (const char* model : kModels) {
    const std::string spec = absl::StrCat(
        kImages, "model { ", model,
        " } initializer { he_normal {} scale: 1e25 } optimizer { sgd { learning_rate: 1e-3 } }");
    const auto result = RunTraining(spec);
    ASSERT_TRUE(result.ok()) << model << ": " << result.status();
    ExpectDiverged(model, *result);
    EXPECT_EQ(result->outcome.result().steps(), 0) << model;
    EXPECT_EQ(result->curves.train_loss.size(), 1U) << model;
  }
}

TEST(DivergenceTest, ARunThatDoesNotOverflowIsNotCalledSo) {
  for (const char* model : kModels) {
    const auto result = RunTraining(absl::StrCat(kImages, "model { ", model,
                                                 " } initializer { he_normal {} } "
                                                 "optimizer { sgd { learning_rate: 1e-3 } }"));
    ASSERT_TRUE(result.ok()) << model << ": " << result.status();
    EXPECT_EQ(result->outcome.state(), v1::Job::SUCCEEDED) << model;
    EXPECT_EQ(result->curves.train_loss.size(), 60U) << model;
  }
}

}  // namespace
}  // namespace normlab::engine
